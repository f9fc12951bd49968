"""Every metric of the pipeline, and nothing else that could be one.

Code gets a `Metrics` and bumps its attributes, once a batch. Values that are cheap to compute and
dear to keep up (lags, buffers) are set by sources of its ``exposition``, which run before a scrape. The
table of ``docs/operations/metrics.md`` is written from here: ``python -m pipeline.observe.document``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import Gauge
from prometheus_client.registry import Collector

from pipeline.contracts.snapshot import ShardSnapshot
from pipeline.observe.definition import Definition, counter, gauge, histogram
from pipeline.observe.exposition import Exposition

PARTITION = ("topic", "partition")
SHARD = ("shard",)
LANES = (*PARTITION, "reason")

END_TO_END_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
)
APPLY_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60),
)
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
DRAIN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One pipeline's metrics, in a registry of their own: nothing is global.

    Usage: ``metrics.records_applied.labels("sessions", 0).inc(1000)``. Nothing here checkpoints.
    """

    message_lag = gauge(
        "pipeline_message_lag",
        PARTITION,
        "Records that wait: the end of the log minus the watermark.",
        "Steady growth: more comes than is applied. Look at pipeline_apply_seconds and"
        " pipeline_shard_state, then add connections or instances.",
    )
    time_lag_seconds = gauge(
        "pipeline_time_lag_seconds",
        PARTITION,
        "Age of the oldest record not yet applied, read or still in Kafka; 0 when none waits. None"
        " for up to two seconds after the partition was assigned.",
        "Alert on this one: it is how stale Postgres is. One partition alone: its shard, or a hot"
        " key (few pipeline_key_channels for many pipeline_buffered_records). All of them: the"
        " consumer, or the load.",
    )
    end_to_end_seconds = histogram(
        "pipeline_end_to_end_seconds",
        (),
        END_TO_END_BUCKETS,
        "Time from a record's timestamp to its commit in Postgres.",
        "This is what users feel. Where it grows and pipeline_apply_seconds does not, records wait"
        " in Kafka or behind a hot key.",
    )
    accepted_to_visible_seconds = histogram(
        "pipeline_accepted_to_visible_seconds",
        (),
        END_TO_END_BUCKETS,
        "Time from a record's timestamp, which `pipeline ingest` sets when it takes the record, to its"
        " commit in Postgres; of the topic of [ingest] alone.",
        "This is what a client waits for after its 202. As for pipeline_end_to_end_seconds.",
    )
    apply_seconds = histogram(
        "pipeline_apply_seconds",
        SHARD,
        APPLY_BUCKETS,
        "Time from sending a batch's transaction to its end in Postgres.",
        "One shard: look for locks, vacuum or a full disk there. All: batches got bigger, or the"
        " network slower.",
    )
    records_applied = counter(
        "pipeline_records_applied_total",
        PARTITION,
        "Records that are done: applied to Postgres, or kept as dead letters.",
        "A rate of 0 while pipeline_message_lag is above 0: see /livez and pipeline_shard_state.",
    )
    duplicates_skipped = counter(
        "pipeline_duplicates_skipped_total",
        PARTITION,
        "Records read again and skipped, since the ledger has them as applied.",
        "Some after a restart or a rebalance are right. Without end: commits to Kafka fail; see the"
        " log.",
    )
    repeated_keys = counter(
        "pipeline_repeated_keys_total",
        PARTITION,
        "Records that count as applied and had no effect, since a record with their idempotency key was"
        " applied before (records.dedupe_for).",
        "Some are right: clients send again what they got no answer to. Many: a client gives several"
        " writes one key, or sends again too early.",
    )
    reapplied = counter(
        "pipeline_reapplied_total",
        PARTITION,
        "Records applied again, since the database came back with fewer commits than it had"
        " acknowledged (a failover, a restored backup, a crash without synchronous commits).",
        "Above 0: nothing is lost, but the database lost commits. Look at how it replicates, and at"
        " what else writes to it.",
    )
    records_lost = counter(
        "pipeline_records_lost_total",
        PARTITION,
        "Records that Kafka deleted before they were applied: by retention (counted by offset, so"
        " compacted records and markers count too), or with their topic.",
        "Above 0: they are gone; the log says which offsets. Raise the topic's retention.ms, and alert"
        " on pipeline_time_lag_seconds long before it.",
    )
    log_changes = counter(
        "pipeline_log_changes_total",
        PARTITION,
        "Times that a partition's log was not the one that was read any more, so that it was taken"
        " over anew: the topic was deleted and made anew, or the log was cut.",
        "Who recreates topics while instances run? A log that was cut: an unclean leader election;"
        " see the log, and unclean.leader.election.enable.",
    )
    dead_letters = counter(
        "pipeline_dead_letters_total",
        PARTITION,
        "Records that Postgres or the decoder refused, kept on the dead letter topic.",
        "Read the reasons with `pipeline dlq list`, mend the cause, then `pipeline dlq replay`.",
    )
    dead_letters_waiting = gauge(
        "pipeline_dead_letters_waiting",
        (),
        "Dead letters that the dead letter topic does not take: each is sent again until it does, and"
        " its partition waits.",
        "Above 0 for a minute: the log says why, and what to do (a right to grant, a topic to create, an"
        " option of the topic). All other partitions go on.",
    )
    dead_letter_kinds = counter(
        "pipeline_dead_letter_kinds_total",
        ("kind",),
        "The same by kind of reason: not-json, value (it fits no column), data and constraint (SQLSTATE"
        " 22 and 23), handler (HandlerReject), other.",
        "not-json or value: a producer has changed. constraint: a row that others need is not there.",
    )
    fenced = counter(
        "pipeline_fenced_total",
        PARTITION,
        "Batches refused since the partition had another owner by then.",
        "Nothing is lost. Often: this instance was paused, or too slow to stay in the group;"
        " compare pipeline_rebalances_total and limits.drain_deadline.",
    )
    rows_written = counter(
        "pipeline_rows_written_total",
        SHARD,
        "Rows written or deleted; fewer than records where several fold into one row.",
        "As many as records under a high load: keys hardly repeat, and coalescing saves nothing.",
    )
    batch_records = histogram(
        "pipeline_batch_records",
        SHARD,
        BATCH_BUCKETS,
        "Records in one transaction.",
        "At limits.max_batch all the time: the pipeline runs behind. Near 1 under a high load:"
        " few keys carry all of it.",
    )
    buffered_records = gauge(
        "pipeline_buffered_records",
        PARTITION,
        "Records held in memory: waiting in key channels, or in flight.",
        "At limits.max_buffered the partition is paused: Postgres is what bounds the pace.",
    )
    key_channels = gauge(
        "pipeline_key_channels",
        PARTITION,
        "Keys with records waiting or in flight.",
        "Far fewer than pipeline_buffered_records: a few hot keys have most of the records.",
    )
    paused = gauge(
        "pipeline_paused",
        ("what",),
        "Partitions of this instance that an operator's pause stops: of a shard, of a topic, or one."
        " No series: nothing is paused.",
        "They lag on purpose: `pipeline pause list` says who paused them, since when and why, and"
        " `pipeline pause remove` ends it.",
    )
    partition_paused = gauge(
        "pipeline_partition_paused",
        PARTITION,
        "1 while an operator's pause stops the partition, 0 otherwise.",
        "Its lag grows on purpose: see pipeline_paused. Alerts on lag leave it out.",
    )
    standing_seconds = gauge(
        "pipeline_standing_seconds",
        PARTITION,
        "Seconds that the watermark has stood still while records wait, the shard answers and nothing"
        " is paused; about 0 while it moves.",
        "From 60 on /livez is 503, and the log has every task: nobody outside is to blame. Restart this"
        " instance, and keep its log.",
    )
    tenant_records = counter(
        "pipeline_tenant_records_total",
        ("tenant",),
        "Records applied of each of the 20 heaviest tenants of late (records.tenant). One that comes back"
        " among them begins anew.",
        "One tenant has most of it: whatever is slow is probably slow for its rows. `pipeline hold add"
        " --tenant` lets it wait, `pipeline limit add` bounds what the endpoint takes of it.",
    )
    key_waiting_seconds = gauge(
        "pipeline_key_waiting_seconds",
        ("topic", "partition", "key"),
        "Age of the oldest record that waits here, of each of the 20 heaviest keys of late that have one"
        " (where records.tenant is set).",
        "One key far above the others: its row is locked, or its records come faster than they can be"
        " applied. See pipeline_lane_records.",
    )
    lane_records = gauge(
        "pipeline_lane_records",
        LANES,
        "Records that wait in lanes, by why those were opened: overflow, hold, retry, reject. They do not"
        " count in pipeline_message_lag. No series: there are no lanes.",
        "overflow: a key (or tenant) is slower than its records come; all others go on. The table"
        " pipeline.lanes says whose records, pg_stat_activity what their rows wait for. hold, retry, reject:"
        " `pipeline hold list`.",
    )
    lane_time_lag_seconds = gauge(
        "pipeline_lane_time_lag_seconds",
        LANES,
        "Age of the oldest record that waits in a lane; 0 when none waits.",
        "How stale the rows of a hot or held key are. Alert if it comes near the topic's retention: what"
        " waits in a lane waits in Kafka.",
    )
    lane_retention_seconds = gauge(
        "pipeline_lane_retention_seconds",
        LANES,
        "Time until the topic's retention.ms lets Kafka delete the oldest record that waits in a lane. No"
        " series: none waits, or the retention is not known (DescribeConfigs).",
        "Alert below a day: what is deleted there is lost. Mend what holds the lane up, release or drop the"
        " hold, or raise retention.ms.",
    )
    in_flight_batches = gauge(
        "pipeline_in_flight_batches",
        SHARD,
        "Transactions that run now.",
        "At pipeline_shard_limit: the shard is what bounds the pace. Stuck above 0 while nothing is"
        " applied: a lock in Postgres (pg_stat_activity, application_name is pipeline.name).",
    )
    shard_state = gauge(
        "pipeline_shard_state",
        SHARD,
        "The breaker: 0 closed, work flows; 1 half-open, probing; 2 open, its partitions paused.",
        "At 2 the database is away. Bring it back: work goes on by itself, and no other shard"
        " notices.",
    )
    shard_limit = gauge(
        "pipeline_shard_limit",
        SHARD,
        "How many batches may be written at once: shards.connections, or fewer where the server takes"
        " clearly longer than usual (limits.adaptive).",
        "Below shards.connections: something else loads this server; see pg_stat_activity."
        " At it, with pipeline_in_flight_batches at it while there is lag and pipeline_apply_seconds"
        " low: give the shard more connections.",
    )
    busy_connections = gauge(
        "pipeline_busy_connections",
        SHARD,
        "Connections in use: batches, take-overs, folds of the ledger, probes.",
        "Falling while pipeline_message_lag grows: the database is not what bounds the pace. A few"
        " keys have most of the records (few pipeline_key_channels), or the limit has fallen"
        " (pipeline_shard_limit).",
    )
    rebalances = counter(
        "pipeline_rebalances_total",
        (),
        "Rebalances in which this instance gained or gave up partitions.",
        "Several a minute without a deployment: an instance restarts, or leaves the group; see its"
        " log, and kafka.session_timeout_ms.",
    )
    drain_seconds = histogram(
        "pipeline_drain_seconds",
        (),
        DRAIN_BUCKETS,
        "Time to finish what was in flight when partitions were taken away.",
        "Near limits.drain_deadline: transactions are cut off and done again elsewhere; see"
        " pipeline_apply_seconds.",
    )
    retries = counter(
        "pipeline_retries_total",
        ("shard", "sqlstate"),
        "Transactions tried again, by the SQLSTATE that made them fail.",
        "40P01 and 55P03: another program holds locks on the same rows. 08 and 57P: the database or"
        " the network went away. 53: it is out of connections, memory or disk.",
    )

    cpu_seconds = counter(
        "pipeline_cpu_seconds_total",
        (),
        "Seconds of CPU that the process has used, in all its threads.",
        "A rate near 1: its core is full; add instances. Falling while pipeline_message_lag grows, with"
        " pipeline_busy_connections: records wait for each other, as behind a hot key or a locked row.",
    )
    memory_bytes = gauge(
        "pipeline_memory_bytes",
        (),
        "Resident memory of the process.",
        "It is bounded, whatever the backlog: by limits.max_buffered_total and limits.max_buffered_bytes,"
        " and by batches in flight. Growth without end is a mistake in this program or in a handler.",
    )
    build_info = gauge(
        "pipeline_build_info",
        ("version",),
        "1, with the version that runs.",
        "Several versions for long: an upgrade stopped half way.",
    )

    ingest_requests = counter(
        "pipeline_ingest_requests_total",
        ("status",),
        "Requests to POST records that `pipeline ingest` has answered, by HTTP status.",
        "503: Kafka is away, or max_pending is reached; see pipeline_ingest_pending and /readyz. 429: a"
        " tenant sends more than ingest.rate_per_tenant. 422, 413, 401: a client has a mistake. 500: the"
        " endpoint has one; its log has the traceback.",
    )
    ingest_request_seconds = histogram(
        "pipeline_ingest_request_seconds",
        (),
        APPLY_BUCKETS,
        "Time from a request's head to its answer, which comes when Kafka has acknowledged.",
        "Kafka is slow to acknowledge (a replica, a disk), or clients are slow to send their bodies. It"
        " says nothing about Postgres: for that, see pipeline_end_to_end_seconds.",
    )
    ingest_records = counter(
        "pipeline_ingest_records_total",
        ("status",),
        "Records that `pipeline ingest` has answered for, by status: 202 accepted, any other refused.",
        "Above 0 for 422: a client sends what the schema does not allow, which its answers say in detail.",
    )
    ingest_pending = gauge(
        "pipeline_ingest_pending",
        (),
        "Records handed to Kafka and not acknowledged yet.",
        "Near ingest.max_pending: Kafka acknowledges more slowly than clients send, and 503 follows.",
    )

    def __init__(self) -> None:
        self.exposition = Exposition()
        for attribute, definition in definitions():
            vars(self)[attribute] = definition.make(self.exposition.registry)

    def set_shards(self, shards: Iterable[ShardSnapshot]) -> None:
        """Set the gauges of shards. Not a checkpoint."""
        for shard in shards:
            self.shard_limit.labels(shard.name).set(shard.limit)
            self.in_flight_batches.labels(shard.name).set(shard.in_flight)
            self.busy_connections.labels(shard.name).set(shard.busy)

    def applied_in_all(self) -> int:
        """How many records were applied so far, in all partitions that were ever assigned."""
        return max(0, _sum(self.records_applied) - self.refused_in_all())

    def refused_in_all(self) -> int:
        """How many records became dead letters so far."""
        return _sum(self.dead_letters)

    def forget_partition(self, topic: str, partition: int | str) -> None:
        """Remove a partition's gauges when it has left; its counters stay. Twice does no harm."""
        for attribute, definition in definitions():
            if definition.labels == PARTITION and definition.kind == "gauge":
                metric: Gauge = getattr(self, attribute)
                metric.remove(topic, partition)

    def render(self) -> bytes:
        """Give everything as Prometheus text; see `Exposition.render`."""
        return self.exposition.render()


def _sum(metric: Collector) -> int:
    """Add up a counter over all its labels."""
    samples = [each for metric in metric.collect() for each in metric.samples]
    return int(sum(each.value for each in samples if each.name.endswith("_total")))


def definitions() -> list[tuple[str, Definition[Any]]]:
    """Every metric with the attribute of `Metrics` that holds it, in the order of the class."""
    return [(name, value) for name, value in vars(Metrics).items() if isinstance(value, Definition)]
