"""The ledger: which offsets have been applied to a shard, kept in the shard itself.

Kafka's commit and Postgres's commit can't be one, so what was applied is written where the data is
written, in the same transaction. Two tables:

- ``pipeline.ownership``: a row for each writer of a partition, with an epoch that grows each time
  the partition changes hands. A writer's statement share-locks its row and demands its own epoch;
  a statement that comes too late finds another and writes nothing. Taking over means to raise the
  epochs, which waits for the transactions that hold the rows: then nothing of the old owner's is
  running, and nothing of it can start.
- ``pipeline.applied``: a row for each transaction, with the offsets it applied. Once a second the
  rows of a partition are folded into one, whose first range ends at the watermark or above: what
  was applied since the watermark was committed may join it. ``folded`` keeps the watermark itself.

Why ``for share`` and a row for each writer: a weaker lock would let the new owner's update pass the
old owner's running statement; one row for all writers would be locked by several transactions at
once, and Postgres writes a multixact for each such crowd (3,300 in a test of 4,000 transactions),
which vacuum has to clear away.

**In doubt.** A write whose answer was lost may be committed, may be running, or may still be on its
way to the server. Reading the ledger is not enough, for the write may land after the reading. So
`RESOLVE` raises the writer's own epoch first: that waits for a write that is running, and fences one
that is still to come. What the ledger says then stays true.

**Commits that were taken back.** A standby that is promoted, a backup that is restored, a crash with
``synchronous_commit = off``: Postgres comes back with fewer commits than it acknowledged. The ledger
went back with the data, so it is right; Kafka's offsets and this program's memory are not. So each
ownership row names the server that the lease was given by (`lease.SERVER`), and every statement that
demands the epoch demands that the server be the one that runs it. On any other server all leases are void
before anything newer could be written over what is missing. The partitions are taken over anew, begin
where the ledger says, skip what its ranges have, and apply the rest again from Kafka. Per key that is in
order: what survived is a prefix of the commits, and a key's records were committed in their order. A
restart without loss costs the same: a take-over and a second's worth of records read again.
Rejected: comparing the ledger with memory on each new connection, which finds out too late behind a
pooler, and costs memory; the timeline, which a crash and a restore to the same timeline leave as it was.

The topic's UUID is part of every key: a topic that was deleted and made again starts at offset 0.
Folding never touches ``ownership``.
"""
