"""What a running instance serves at /metrics: the names, kinds and labels that are public."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.in_process import Commands
from tests.support.locked import locked
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real

PARTITION, SHARD = {"topic", "partition"}, {"shard"}

PUBLIC = {
    "pipeline_message_lag": ("gauge", PARTITION),
    "pipeline_time_lag_seconds": ("gauge", PARTITION),
    "pipeline_end_to_end_seconds": ("histogram", set()),
    "pipeline_reapplied_total": ("counter", PARTITION),
    "pipeline_apply_seconds": ("histogram", SHARD),
    "pipeline_records_applied_total": ("counter", PARTITION),
    "pipeline_duplicates_skipped_total": ("counter", PARTITION),
    "pipeline_dead_letters_total": ("counter", PARTITION),
    "pipeline_dead_letters_waiting": ("gauge", set()),
    "pipeline_dead_letter_kinds_total": ("counter", {"kind"}),
    "pipeline_fenced_total": ("counter", PARTITION),
    "pipeline_rows_written_total": ("counter", SHARD),
    "pipeline_batch_records": ("histogram", SHARD),
    "pipeline_buffered_records": ("gauge", PARTITION),
    "pipeline_key_channels": ("gauge", PARTITION),
    "pipeline_paused": ("gauge", {"what"}),
    "pipeline_partition_paused": ("gauge", PARTITION),
    "pipeline_standing_seconds": ("gauge", PARTITION),
    "pipeline_in_flight_batches": ("gauge", SHARD),
    "pipeline_shard_state": ("gauge", SHARD),
    "pipeline_shard_limit": ("gauge", SHARD),
    "pipeline_busy_connections": ("gauge", SHARD),
    "pipeline_rebalances_total": ("counter", set()),
    "pipeline_drain_seconds": ("histogram", set()),
    "pipeline_cpu_seconds_total": ("counter", set()),
    "pipeline_memory_bytes": ("gauge", set()),
    "pipeline_build_info": ("gauge", {"version"}),
    "pipeline_retries_total": ("counter", SHARD | {"sqlstate"}),
}

ELSEWHERE = re.compile(
    r"pipeline_(ingest_.*|lane_.*|tenant_records_total|key_waiting_seconds|accepted_to_visible_seconds"
    r"|repeated_keys_total|records_lost_total|log_changes_total)"
)
"""What the endpoint fills, what only a log that changes does, and lanes: each has tests of its own."""

OF_A_PARTITION = [
    name for name, (kind, labels) in PUBLIC.items() if kind == "gauge" and labels == PARTITION
]


def served(text: str) -> dict[str, tuple[str, set[str] | None]]:
    """Name → kind and labels; None where it has no series, or not all have the same labels."""
    found: dict[str, tuple[str, set[str] | None]] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        found[name] = (family.type, set(*labels) if len(labels) == 1 else None)
    return found


def test_every_metric_is_served_with_its_labels(
    new_job: JobFactory,
    account_dsn: str,
    topic: TopicFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = new_job(1)
    job.write_config(
        {"db0": (account_dsn, "")},
        errors=f'dead_letter_topic = "{topic(1)}"',
        limits='lock_timeout = "200ms"',
    )
    instance = job.start()
    job.produce([*accounts.changes(100, keys=10, seed=1), (b"1", b"\xff not json")])
    job.wait_caught_up()
    with locked(account_dsn):
        job.produce(accounts.changes(10, keys=10, seed=2, first=100))
        job.wait_until(lambda: instance.metric("pipeline_retries_total") > 0)
    psql(account_dsn, "update pipeline.ownership set epoch = epoch + 1")
    job.produce(accounts.changes(10, keys=10, seed=3, first=110))
    job.wait_until(lambda: instance.metric("pipeline_fenced_total") > 0)
    job.wait_caught_up()
    assert set(instance.by_partition("pipeline_partition_paused").values()) == {0.0}
    Commands(job, capsys).run("pause", "add", "--shard", "db0")

    def shown() -> dict[str, tuple[str, set[str] | None]]:
        found = served(instance.scrape())
        return {name: found[name] for name in found if not ELSEWHERE.fullmatch(name)}

    job.wait_until(lambda: shown() == PUBLIC, "all names, kinds and labels")
    assert set(instance.by_partition("pipeline_partition_paused").values()) == {1.0}
    assert re.search(r"^pipeline_cpu_seconds_total [0-9.]*[1-9]", instance.scrape(), re.MULTILINE)
    assert instance.metric("pipeline_dead_letters_total") == 1
    assert instance.stop() == 0


def test_a_partitions_series_go_with_it(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")})
    job.produce(accounts.changes(500, keys=100, seed=1))
    first = job.start()
    job.wait_caught_up()
    everything = set(range(6))
    job.wait_until(lambda: set(first.by_partition("pipeline_time_lag_seconds")) == everything)
    second = job.start()

    def divided() -> bool:
        for name in OF_A_PARTITION:
            ours, theirs = first.by_partition(name), second.by_partition(name)
            if not ours or not theirs or set(ours) & set(theirs):
                return False
            if set(ours) | set(theirs) != everything:
                return False
        return True

    job.wait_until(divided)
    assert set(first.by_partition("pipeline_records_applied_total")) == everything  # a count stays
    assert second.stop() == 0
    job.wait_until(lambda: set(first.by_partition("pipeline_key_channels")) == everything)
    assert first.stop() == 0
