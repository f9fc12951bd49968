"""What a healthy run says in the log: its announcement, a line per minute, how it ended."""

from __future__ import annotations

import logging
import signal
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from pipeline.config.load import load
from pipeline.consumer.starting_offset import starting_offset
from pipeline.contracts.kafka import Position
from pipeline.contracts.lane import LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.snapshot import LaneSnapshot, PartitionSnapshot, Phase
from pipeline.contracts.store import AppliedOffsets
from pipeline.contracts.wish import Hold, Pause, Scope
from pipeline.observe.health import STALL_SECONDS, ProgressWatch
from pipeline.observe.logging import configure_logging
from pipeline.observe.metrics import Metrics
from pipeline.observe.progress import ProgressLog, announcement, shown
from pipeline.records.record import TopicPartition
from pipeline.runtime import signals
from tests.support.configurations import document

SOURCE = TopicPartition("orders", 3)
PAUSE = Pause(id="p1", by="ada@host", since=0, why="vacuum", what=Scope(topic="orders"))
HOLD = Hold(id="h1", by="ada@host", since=0, rule=Rule("key", "k"))
LANE = LaneSnapshot(1, HOLD.rule, LaneReason.HOLD, waiting=120, hold=HOLD)


def snapshot(partition: int, **facts: object) -> PartitionSnapshot:
    source = TopicPartition("orders", partition)
    return PartitionSnapshot(source, **facts)  # type: ignore[arg-type]


def test_an_announcement_names_what_is_read_and_written_and_shows_no_password(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(document())
    config = load(path)
    text = "\n".join(announcement(config))
    assert f"group {config.kafka.group_id} reads {config.kafka.topics[0]} from Kafka at" in text
    assert "(PLAINTEXT)" in text
    assert f"delivery is exactly-once, by table {config.sink.table}" in text
    assert f"shard {config.shards[0].name}: postgresql://app:***@" in text
    assert "s3cr3t" not in text


def test_partitions_are_shown_as_ranges() -> None:
    assert shown([5, 0, 2, 1]) == "0-2, 5"


async def test_a_line_per_minute_has_what_was_applied_and_what_waits(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    del autojump_clock
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    found = [
        snapshot(0, message_lag=5, time_lag=1.25),
        snapshot(1, message_lag=7, time_lag=0.0, answers=False),
        snapshot(2, phase=Phase.OPENING),
        snapshot(3, pause=PAUSE, message_lag=0),
        snapshot(4, pause=PAUSE, message_lag=0, lanes=(LANE,)),
    ]
    progress = ProgressLog(metrics.applied_in_all, lambda: found, refused=metrics.refused_in_all)
    with trio.move_on_after(150):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(progress.run)
            metrics.records_applied.labels("orders", 0).inc(10)
            await trio.sleep(61)
            metrics.records_applied.labels("orders", 1).inc(5)
            metrics.dead_letters.labels("orders", 1).inc(2)
            metrics.forget_partition("orders", 1)
    waits = (
        "lag 12 (the oldest is 1.2 s old); partitions 5; the lag of 1 is unknown; "
        "1 being taken over; paused: topic orders (2 partitions here), by ada@host since "
        "1970-01-01 00:00 UTC: vacuum; held: h1 (120 records in 1 partition here), by ada@host since "
        "1970-01-01 00:00 UTC; 1 wait for their database"
    )
    refused = "2 became dead letters in all; "
    assert [record.getMessage() for record in caplog.records] == [
        f"applied 10 records in the last minute, 10 in all; {waits}",
        f"applied 3 records in the last minute, 13 in all; {refused}{waits}",
        "stopped: 13 records were applied in 150 s; 2 became dead letters",
    ]
    facts = vars(caplog.records[-1])["facts"]
    assert facts == {"event": "stopped", "records": 13, "milliseconds": 150_000.0}


def test_without_partitions_the_line_says_so() -> None:
    line = ProgressLog(lambda: 0, list, lambda: 0.0).line()
    assert line.endswith("; this instance has no partition")


@pytest.mark.parametrize(
    ("committed", "watermark", "start", "message"),
    [
        (7, 7, 0, "starts at offset 7: the group's offset"),
        (7, None, 0, "starts at offset 7: the group's offset"),
        (9, 7, 0, "starts at offset 9: the group's offset"),
        (7, 9, 0, "starts at offset 9: the ledger has all below it"),
        (None, 9, 0, "starts at offset 9: the ledger has all below it"),
        (
            None,
            None,
            0,
            "starts at offset 2: the group has no offset there, so by auto_offset_reset",
        ),
        (3, None, 4, "starts at offset 4: the first record that Kafka still has"),
    ],
)
def test_where_a_partition_starts_and_why_is_logged(
    committed: int | None,
    watermark: int | None,
    start: int,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    applied = AppliedOffsets(watermark, (), None)
    starting_offset(SOURCE, applied, Position(committed, "", start, 20, reset=2), UUID(int=1))
    assert f"orders-3 {message}" in caplog.text


def test_the_false_alarms_of_healthy_runs_are_quiet() -> None:
    """kafka-python warns of these in nearly every start."""
    logs = [
        (
            "kafka.coordinator.assignors.sticky.sticky_assignor",
            "No partition metadata for topic %s",
        ),
        ("kafka.net.selector", "Task %r ran for %.3fs (>%.3fs threshold)"),
        ("kafka.net.selector", "Socket closed"),
    ]
    for level, expected in (("INFO", 1), ("DEBUG", 3)):
        stream = StringIO()
        before = logging.getLogger().handlers[:]
        try:
            configure_logging(level, stream=stream)
            for name, message in logs:
                logging.getLogger(name).warning(message.replace("%r", "").replace("%.3f", ""))
        finally:
            logging.basicConfig(handlers=before, force=True)
            logging.captureWarnings(False)
        assert len(stream.getvalue().splitlines()) == expected


def test_it_is_not_ready_while_no_database_answers() -> None:
    watch = ProgressWatch(lambda: 0.0, str)
    watch.joined()
    assert watch.ready() == []
    watch.feed([snapshot(0, answers=False), snapshot(1)])
    assert watch.ready() == [], "some of its work is done"
    watch.feed([snapshot(0, answers=False), snapshot(1, answers=False)])
    assert watch.ready() == ["no database of the 2 partitions here answers"]
    letters = snapshot(0, answers=False, waits_for="the dead letter topic")
    watch.feed([letters, snapshot(1, answers=False)])
    assert watch.ready() == [
        "1 of the 2 partitions here wait for the dead letter topic, and the others for their database"
    ]
    waits = ProgressLog(lambda: 0, lambda: [letters], lambda: 0.0).line()
    assert waits.endswith("; 1 wait for the dead letter topic")
    watch.feed([])
    assert watch.ready() == []


def test_a_closed_terminal_stops_it_unless_that_is_ignored() -> None:
    assert signal.SIGHUP in signals.stopping()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert signals.stopping() == (signal.SIGTERM, signal.SIGINT)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_broken_connection_of_kafkas_is_one_line() -> None:
    """The restart of a broker logged a traceback per connection."""
    stream, before = StringIO(), logging.getLogger().handlers[:]
    try:
        configure_logging("INFO", stream=stream)
        for error in (ConnectionResetError(104, "reset"), ValueError("a mistake")):
            try:
                raise error
            except Exception:  # any error is told
                logging.getLogger("kafka.net.manager").exception("closing")
    finally:
        logging.basicConfig(handlers=before, force=True)
        logging.captureWarnings(False)
    first, second, *trace = stream.getvalue().splitlines()
    assert first.endswith("ERROR kafka.net.manager closing: [Errno 104] reset")
    assert second.endswith("closing")
    assert "Traceback" in trace[0]


@pytest.mark.parametrize(
    ("before", "after", "live"),
    [
        ({}, {}, False),
        ({}, {"answers": False}, True),
        ({}, {"pause": PAUSE}, True),
        ({"refused": 3}, {"refused": 4}, True),
        ({"refused": 3}, {"refused": 3}, False),
        ({}, {"kept_back": True}, True),
    ],
    ids=["stands", "shard-away", "paused", "a-lock-refused-again", "nothing-ended", "no-lane-left"],
)
def test_a_partition_that_waits_for_what_outlives_a_restart_is_live(
    before: dict[str, object], after: dict[str, object], live: bool
) -> None:
    now = 0.0
    health = ProgressWatch(lambda: now, lambda: "")
    health.feed([snapshot(0, message_lag=5, watermark=7, **before)])
    now = STALL_SECONDS
    health.feed([snapshot(0, message_lag=5, watermark=7, **after)])
    assert (not health.live()) == live
