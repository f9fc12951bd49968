"""What the benches give to the programs that they measure: configurations and records."""

from __future__ import annotations

import ast
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import deduplication, delivery, handlers, handover, metrics
from bench.harness import load
from bench.harness.drain import Commands, Job
from bench.harness.topics import Load
from bench.subjects.configuration import configuration
from bench.subjects.programs import pipeline
from pipeline.config.load import load as configured

BENCH = Path(__file__).parents[2] / "bench"
DSN = "postgresql://localhost/db"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("localhost:9092", "topic", "group", DSN, tmp_path)


def written(job: Job, commands: Commands) -> dict[str, Any]:
    """The configuration file that a program was given."""
    commands(job)
    return tomllib.loads((job.directory / "pipeline.toml").read_text())


def test_every_partition_has_one_shard(tmp_path: Path) -> None:
    dsns = tuple(f"{DSN}{number}" for number in range(3))
    job = Job("localhost:9092", "topic", "group", dsns[0], tmp_path, dsns, partitions=16)
    config = written(job, pipeline)
    assert [shard["dsn"] for shard in config["shards"]] == list(dsns)
    assert [shard["partitions"] for shard in config["shards"]] == ["0-4", "5-9", "10-15"]


def test_one_database_has_all_partitions(job: Job) -> None:
    assert written(job, pipeline)["shards"] == [{"name": "db0", "dsn": DSN}]


def test_what_is_written_is_the_dictionary(job: Job) -> None:
    """Also text that TOML has to escape."""
    kafka = {"client_id": 'a "quoted" \\ name\n[sink]', "session_timeout_ms": 6000}
    config = written(job, partial(pipeline, kafka=kafka))
    assert config == configuration(job, kafka=kafka)
    assert config["kafka"]["client_id"] == kafka["client_id"]


def test_each_guarantee_is_what_its_name_says(job: Job) -> None:
    for variant in delivery.variants(Load(1)):
        assert written(job, variant.commands)["pipeline"]["delivery"] == variant.name


def test_only_one_of_two_variants_remembers_keys(job: Job) -> None:
    remembered = {
        variant.name: written(job, variant.commands)["records"].get("dedupe_for")
        for variant in deduplication.variants(Load(1))
    }
    assert remembered == {"without keys": None, "with keys": "24h"}


def test_only_the_scraped_variant_has_an_endpoint(job: Job) -> None:
    http = {
        variant.name: written(job, variant.commands).get("http")
        for variant in metrics.variants(Load(1), "127.0.0.1:9187")
    }
    assert http == {"not kept": None, "kept": None, "scraped": {"listen": "127.0.0.1:9187"}}


def test_two_processes_share_the_connections(job: Job) -> None:
    one, two = handlers.variants(["upsert"], 1, 1)
    assert written(job, one.commands)["shards"][0]["connections"] == 16
    assert written(job, two.commands)["shards"][0]["connections"] == 8
    assert len(two.commands(job)) == 2


PROGRAMS: dict[str, Commands] = {
    "delivered": pipeline,
    "handover": partial(pipeline, sink=handover.SINK, kafka={"session_timeout_ms": 6000}),
    **{variant.name: variant.commands for variant in delivery.variants(Load(1))},
    **{variant.name: variant.commands for variant in deduplication.variants(Load(1))},
    **{variant.name: variant.commands for variant in metrics.variants(Load(1), "127.0.0.1:9187")},
    **{variant.name: variant.commands for variant in handlers.variants(handlers.PARTS, 1, 1)},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_configuration_is_one_that_the_pipeline_reads(job: Job, name: str) -> None:
    PROGRAMS[name](job)
    configured(job.directory / "pipeline.toml")


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


def imported(file: Path) -> set[str]:
    """The modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


@pytest.mark.parametrize(
    ("room", "below"), [("harness", "bench.harness"), ("subjects", "bench.subjects")]
)
def test_no_room_imports_one_above_it(room: str, below: str) -> None:
    """Questions import subjects, subjects the harness; never the other way round."""
    allowed = {"bench.harness"} | {below}
    for file in (BENCH / room).rglob("*.py"):
        for module in imported(file):
            if module.startswith("bench."):
                assert any(f"{module}.".startswith(f"{room}.") for room in allowed), (file, module)
