"""The registry of metrics, its histogram and its document; and logs."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pipeline.observe.document import DOCUMENT, document
from pipeline.observe.histogram import Histogram
from pipeline.observe.logging import configure_logging
from pipeline.observe.metrics import Metrics, definitions
from pipeline.observe.process import installed_version, process_source

BOUNDS = (0.001, 0.25, 1, 60)


def samples(metrics: Metrics) -> dict[str, float]:
    """What a scrape shows, by ``name{label=value,…}`` with the labels sorted."""
    shown = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            shown[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return shown


def test_each_metric_is_named_after_its_attribute() -> None:
    assert len(definitions()) == 41
    for attribute, definition in definitions():
        suffix = "_total" if definition.kind == "counter" else ""
        assert definition.name == f"pipeline_{attribute}{suffix}"


def test_each_metric_exists_and_has_the_declared_type_and_labels() -> None:
    metrics = Metrics()
    for attribute, definition in definitions():
        metric = getattr(metrics, attribute)
        if definition.labels:
            metric = metric.labels(*definition.labels)
        move = {"counter": "inc", "gauge": "inc", "histogram": "observe"}[definition.kind]
        getattr(metric, move)(*([1.0] if definition.kind == "histogram" else []))
    text = metrics.render().decode()
    shown = samples(metrics)
    for _, definition in definitions():
        assert f"# TYPE {definition.name} {definition.kind}\n" in text
        name = definition.name + ("_count" if definition.kind == "histogram" else "")
        labels = ",".join(f"{label}={label}" for label in sorted(definition.labels))
        assert shown[f"{name}{{{labels}}}" if labels else name] == 1.0


def test_two_pipelines_in_a_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.rebalances.inc()
    assert samples(one)["pipeline_rebalances_total"] == 1
    assert samples(other)["pipeline_rebalances_total"] == 0


def test_creation_times_are_left_out() -> None:
    metrics = Metrics()
    metrics.records_applied.labels("t", 0).inc()
    assert b"_created" not in metrics.render()


def test_a_forgotten_partition_keeps_its_counters_and_loses_its_gauges() -> None:
    metrics = Metrics()
    for partition in (0, 1):
        metrics.message_lag.labels("t", partition).set(7)
        metrics.time_lag_seconds.labels("t", partition).set(7)
        metrics.buffered_records.labels("t", partition).set(7)
        metrics.key_channels.labels("t", partition).set(7)
        metrics.records_applied.labels("t", partition).inc(3)
    metrics.forget_partition("t", 0)
    metrics.forget_partition("t", "0")
    of_it = [name for name in samples(metrics) if "partition=0" in name]
    assert of_it == ["pipeline_records_applied_total{partition=0,topic=t}"]
    assert len([name for name in samples(metrics) if "partition=1" in name]) == 5


def test_sources_run_at_each_scrape_until_removed() -> None:
    metrics = Metrics()
    lag = metrics.message_lag.labels("t", 0)

    def source() -> None:
        lag.inc()

    metrics.exposition.add_source(source)
    assert samples(metrics)["pipeline_message_lag{partition=0,topic=t}"] == 1
    assert samples(metrics)["pipeline_message_lag{partition=0,topic=t}"] == 2
    metrics.exposition.remove_source(source)
    assert samples(metrics)["pipeline_message_lag{partition=0,topic=t}"] == 2


def test_a_source_that_fails_is_logged_and_the_others_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()

    def broken() -> None:
        raise RuntimeError("no such partition")

    metrics.exposition.add_source(broken)
    metrics.exposition.add_source(lambda: metrics.shard_limit.labels("db0").set(4))
    assert samples(metrics)["pipeline_shard_limit{shard=db0}"] == 4
    assert "no such partition" in caplog.text


def test_each_scrape_counts_the_cpu_that_was_used_since_the_last_one() -> None:
    metrics = Metrics()
    used = iter([1.5, 4.0, 4.0])
    metrics.exposition.add_source(process_source(metrics, lambda: next(used)))
    assert [samples(metrics)["pipeline_cpu_seconds_total"] for _ in range(3)] == [1.5, 4.0, 4.0]


def test_the_memory_and_the_version_of_the_process_are_told() -> None:
    metrics = Metrics()
    metrics.exposition.add_source(process_source(metrics))
    found = samples(metrics)
    assert found["pipeline_memory_bytes"] > 1e6
    assert found[f"pipeline_build_info{{version={installed_version()}}}"] == 1


VALUES = st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, *BOUNDS]))


@given(st.lists(st.lists(VALUES, max_size=50), max_size=5))
def test_the_histogram_agrees_with_the_one_of_prometheus_client(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("h", "help", buckets=BOUNDS, registry=ours)
    one_by_one = Histogram("one", "help", buckets=BOUNDS, registry=ours)
    model = prometheus_client.Histogram("h", "help", buckets=BOUNDS, registry=theirs)
    for batch in batches:
        histogram.observe_many(batch)
        for value in batch:
            one_by_one.observe(value)
            model.observe(value)
    for bound in (*map(prometheus_client.utils.floatToGoString, BOUNDS), "+Inf"):
        expected = theirs.get_sample_value("h_bucket", {"le": bound})
        assert ours.get_sample_value("h_bucket", {"le": bound}) == expected
        assert ours.get_sample_value("one_bucket", {"le": bound}) == expected
    assert ours.get_sample_value("h_count") == theirs.get_sample_value("h_count")
    for name in ("h_sum", "one_sum"):
        assert ours.get_sample_value(name) == pytest.approx(theirs.get_sample_value("h_sum"))


@given(st.lists(st.integers(-2, 200_000), max_size=40))
def test_ages_count_as_the_values_they_are(stamps: list[int]) -> None:
    now = 150.0
    registry = CollectorRegistry()
    by_stamp = Histogram("a", "help", buckets=BOUNDS, registry=registry)
    by_value = Histogram("b", "help", buckets=BOUNDS, registry=registry)
    by_stamp.observe_ages(stamps, now)
    by_value.observe_many([now - stamp / 1000 if stamp >= 0 else 0.0 for stamp in stamps])
    (counts, total), (expected, expected_total) = by_stamp.labels().read(), by_value.labels().read()
    assert counts == expected
    assert total == pytest.approx(expected_total)


def test_a_labelled_histogram_renders_as_the_one_of_prometheus_client() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram("h", "help", ("shard",), buckets=BOUNDS, registry=ours).labels("db0").observe(1)
    model = prometheus_client.Histogram("h", "help", ("shard",), buckets=BOUNDS, registry=theirs)
    model.labels("db0").observe(1)
    expected = prometheus_client.generate_latest(theirs).decode().split("# HELP h_created")[0]
    assert prometheus_client.generate_latest(ours).decode() == expected


def test_a_time_before_its_record_counts_as_zero() -> None:
    metrics = Metrics()
    metrics.end_to_end_seconds.observe_many([-5.0, 2.0])
    metrics.end_to_end_seconds.observe(-1.0)
    assert samples(metrics)["pipeline_end_to_end_seconds_bucket{le=0.001}"] == 2
    assert samples(metrics)["pipeline_end_to_end_seconds_sum"] == 2.0


def test_a_histogram_refuses_what_makes_no_sense() -> None:
    registry = CollectorRegistry()
    with pytest.raises(ValueError, match="must grow"):
        Histogram("h", "help", buckets=(1, 1), registry=registry)
    with pytest.raises(ValueError, match="must grow"):
        Histogram("h", "help", buckets=(), registry=registry)
    histogram = Histogram("h", "help", ("shard",), buckets=(1,), registry=registry)
    with pytest.raises(ValueError, match="0 values"):
        histogram.observe(1.0)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("h", "help", buckets=(1,), registry=registry)


def test_the_document_is_what_the_registry_says() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "docs/operations/metrics.md is stale: run python -m pipeline.observe.document"
    )


def test_metrics_alone_do_not_import_the_server_or_kafka() -> None:
    heavy = "{'httptools', 'starlette', 'kafka', 'asyncpg', 'trio'}"
    code = f"import sys, pipeline.observe.metrics; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.usefixtures("root")
def test_a_log_record_is_a_line_with_time_level_and_logger() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    logging.getLogger("pipeline.x").warning("revoked %s", "sessions-0")
    logging.getLogger("pipeline.x").debug("unseen")
    logging.getLogger("kafka.client").info("unseen")
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING pipeline\.x revoked sessions-0\n"
    assert re.fullmatch(line, stream.getvalue())


@pytest.mark.usefixtures("root")
def test_further_lines_of_a_log_record_are_indented() -> None:
    stream = io.StringIO()
    configure_logging(logging.INFO, stream=stream)
    try:
        raise RuntimeError("gone\n2026-01-01T00:00:00.000Z ERROR forged")
    except RuntimeError:
        logging.getLogger("x").exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR x failed")
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.usefixtures("root")
def test_lines_for_the_journal_have_priorities_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure_logging("DEBUG", "text", stream=stream)
        logging.getLogger("x").error("one\ntwo")
        logging.getLogger("x").debug("three")
        stream.seek(0)
        assert stream.read() == "<3>x one\n<3>    two\n<7>x three\n"


@pytest.mark.usefixtures("root")
def test_a_stream_that_is_not_the_journal_gets_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    stream = io.StringIO()
    configure_logging("INFO", stream=stream)
    logging.getLogger("x").info("hello")
    assert stream.getvalue().endswith("Z INFO x hello\n")


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud", stream=io.StringIO())
