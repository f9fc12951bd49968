"""What a rewind will do, worked out from what Kafka and the ledgers hold. Nothing here asks or changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from pipeline.config.model import Config
from pipeline.contracts import commit_metadata as metadata
from pipeline.contracts.store import Claim
from pipeline.operate.cluster import Committed
from pipeline.operate.ledgers import Reset
from pipeline.postgres.ledger.lane_moves import LaneMove
from pipeline.postgres.ledger.reading import LedgerEntry, Ranges
from pipeline.records.record import TopicPartition


@attrs.frozen
class PartitionMove:
    """What happens to one partition.

    Attributes:
        source: topic and partition.
        shard: the name of the shard that the partition writes to.
        begin: the offset at which an instance would begin now.
        to: the offset at which an instance will begin.
        again: how many applied offsets will be applied again, at most (compaction leaves holes).
        skipped: how many offsets that are not applied will never be.
        applied: what stays known as applied from ``to`` on. Going back forgets all of it, since that
            is what going back is for. Skipping keeps it, or it would be applied a second time.
        epochs: the ledger's, when it was read.
        lanes: how many lanes are open. They go along: see `lane_move`.
    """

    source: TopicPartition
    shard: str
    begin: int
    to: int
    again: int
    skipped: int
    applied: Ranges
    epochs: tuple[tuple[int, int], ...]
    lanes: int = 0

    @property
    def lane_move(self) -> LaneMove:
        """What becomes of the lanes. Where nothing moves, what waits in them is not skipped."""
        if self.to == self.begin:
            return LaneMove.STAY
        return LaneMove.BACK if self.to < self.begin else LaneMove.SKIP


@attrs.frozen
class RewindPlan:
    """What `prepare` found, and `carry_out` does.

    Attributes:
        moves: one for each partition.
        claims: what names the partitions in the ledgers; empty if there are none (at-least-once).
    """

    moves: Sequence[PartitionMove]
    claims: Mapping[TopicPartition, Claim]


def plan(
    config: Config,
    targets: Mapping[TopicPartition, int],
    committed: Mapping[TopicPartition, Committed],
    bounds: Mapping[TopicPartition, tuple[int, int]],
    entries: Mapping[TopicPartition, LedgerEntry],
) -> list[PartitionMove]:
    """Return what will move. ``entries`` are the ledgers'; they are empty under at-least-once."""
    return [
        _move(
            source, config.shard_for(source.partition).name, to, committed.get(source),
            bounds[source], entries.get(source, LedgerEntry()),
        )
        for source, to in targets.items()
    ]  # fmt: skip


def _move(
    source: TopicPartition, shard: str, to: int, committed: Committed | None,
    bounds: tuple[int, int], entry: LedgerEntry,
) -> PartitionMove:  # fmt: skip
    start, end = bounds
    applied = list(entry.applied)
    begin = committed.offset if committed else start
    if committed is not None:
        applied += metadata.decode(committed.metadata, committed.offset)
    if applied and applied[0][0] == 0:
        begin = max(begin, applied[0][1])
    begin = min(max(begin, start), end)
    above = [(max(first, begin), last) for first, last in applied if last > begin]
    kept = tuple((max(first, to), last) for first, last in above if last > to)
    if to < begin:
        again = begin - to + sum(last - first for first, last in above)
        return PartitionMove(source, shard, begin, to, again, 0, (), entry.epochs, entry.lanes)
    passed = sum(min(last, to) - first for first, last in above if first < to)
    skipped = to - begin - passed
    return PartitionMove(source, shard, begin, to, 0, skipped, kept, entry.epochs, entry.lanes)


def commits_of(config: Config, moves: Sequence[PartitionMove]) -> dict[TopicPartition, Committed]:
    """Return what to commit to Kafka."""
    ledger = config.pipeline.exactly_once
    return {
        move.source: Committed(move.to, "" if ledger else metadata.encode(move.to, move.applied))
        for move in moves
    }


def resets_of(
    claims: Mapping[TopicPartition, Claim], moves: Sequence[PartitionMove]
) -> list[Reset]:
    """Return what each ledger is to hold: all below the new offset, and what stays known above."""
    return [
        Reset(
            claims[move.source],
            move.epochs,
            _joined(move.to, move.applied),
            move.to,
            move.lane_move,
        )
        for move in moves
    ]


def _joined(to: int, applied: Ranges) -> Ranges:
    return ((0, to), *applied) if to > 0 else applied
