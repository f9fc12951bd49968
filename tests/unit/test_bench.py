"""What the benches give to the programs that they measure."""

from __future__ import annotations

import tomllib
from pathlib import Path

import orjson
import pytest

from bench.harness import load
from bench.harness.drain import Job
from bench.subjects.programs import CONFIG, pipeline


def test_every_partition_has_one_shard(tmp_path: Path) -> None:
    dsns = tuple(f"postgresql://localhost/db{number}" for number in range(3))
    job = Job("localhost:9092", "topic", "group", dsns[0], tmp_path, dsns, partitions=16)
    pipeline(job)
    config = tomllib.loads((tmp_path / "pipeline.toml").read_text())
    assert [shard["dsn"] for shard in config["shards"]] == list(dsns)
    assert [shard["partitions"] for shard in config["shards"]] == ["0-4", "5-9", "10-15"]


def test_one_database_has_all_partitions(tmp_path: Path) -> None:
    job = Job("localhost:9092", "topic", "group", "postgresql://localhost/db", tmp_path)
    pipeline(job)
    text = (tmp_path / "pipeline.toml").read_text()
    assert tomllib.loads(text)["shards"] == [{"name": "db0", "dsn": job.dsn}]
    assert tomllib.loads(CONFIG.format(job=job, sink=""))["shards"] == [
        {"name": "db0", "dsn": job.dsn}
    ]


@pytest.mark.parametrize("size", [200, 1000, 4000])
def test_a_value_has_the_size_that_was_asked_for(size: int) -> None:
    values = [value for _, value in load.records(100, 1_000_000, 1, size)]
    assert {len(value) for value in values} == {size}
    assert all(orjson.loads(value)["session_count"] == 1 for value in values)
    assert load.mean_size(1, size) == size


def test_the_model_does_not_depend_on_the_size() -> None:
    small, large = (load.expected(load.records(500, 20, 1, size)) for size in (50, 2000))
    assert small == large
    assert load.mean_size(1, 50) == pytest.approx(101, abs=2), "what a value has without padding"
