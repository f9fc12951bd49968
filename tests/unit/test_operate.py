"""The operating commands' own thinking, without servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.config.load import load
from pipeline.config.model import Config
from pipeline.contracts.commit_metadata import encode, unfold
from pipeline.contracts.snapshot import age_of
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError
from pipeline.kafka.letter_forms import headers_of
from pipeline.operate import lag, ledgers
from pipeline.operate.cluster import Committed
from pipeline.operate.deadletters import DeadLetter, Filter, Found, marker, parse
from pipeline.operate.lag import measure
from pipeline.operate.rewind import carry_out
from pipeline.operate.rewind_plan import (
    PartitionMove,
    RewindPlan,
    commits_of,
    plan,
    resets_of,
)
from pipeline.operate.rewind_targets import parse_target
from pipeline.operate.views import pretty, rewind_json, rewind_lines
from pipeline.postgres.ledger.lane_moves import LaneMove
from pipeline.postgres.ledger.reading import LedgerEntry
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.ranges import ranges_of
from pipeline.records.record import TopicPartition
from tests.support.records import SOURCE, Raw, record

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
_ID = UUID(int=1)
PLACE = TopicPartition("dead", 0)

CONFIG = """\
[pipeline]
name = "sessions"
delivery = "DELIVERY"
[kafka]
bootstrap_servers = "127.0.0.1:1"
topics = ["sessions"]
group_id = "sessions"
[sink]
table = "t"
mode = "MODE"
primary_key = ["id"]
[sink.columns]
id = "id"
visits = { from = "visits", merge = "add" }
[[shards]]
name = "db0"
dsn = "postgresql://127.0.0.1:1/none"
"""


def config(tmp_path: Path, delivery: str = "exactly-once", mode: str = "upsert") -> Config:
    path = tmp_path / "sessions.toml"
    path.write_text(CONFIG.replace("DELIVERY", delivery).replace("MODE", mode))
    return load(path)


@pytest.fixture
def exactly_once(tmp_path: Path) -> Config:
    return config(tmp_path)


# Rewinding


def test_a_target_is_an_offset_a_word_or_a_moment() -> None:
    assert parse_target("12") == 12
    assert parse_target("earliest") == "earliest"
    assert parse_target("2026-05-01T12:00") == NOW
    with pytest.raises(ValueError, match="or an offset, earliest, latest or committed"):
        parse_target("first")


def planned(
    config: Config,
    to: int,
    entry: LedgerEntry,
    committed: Committed | None,
    end: int = 100,
    start: int = 0,
) -> PartitionMove:
    given_by: Mapping[TopicPartition, Committed] = {} if committed is None else {SOURCE: committed}
    (move,) = plan(config, {SOURCE: to}, given_by, {SOURCE: (start, end)}, {SOURCE: entry})
    return move


def test_it_begins_where_an_instance_would(exactly_once: Config) -> None:
    ledger = LedgerEntry(applied=((0, 50), (60, 70)))
    assert planned(exactly_once, 50, ledger, Committed(30, "")).begin == 50
    assert planned(exactly_once, 50, ledger, Committed(55, "")).begin == 55
    assert planned(exactly_once, 50, ledger, None).begin == 50
    assert planned(exactly_once, 50, LedgerEntry(), None, start=7).begin == 7
    assert planned(exactly_once, 50, LedgerEntry(), Committed(3, ""), start=7).begin == 7


OFFSETS = st.sets(st.integers(0, 40))


@given(st.data(), OFFSETS, st.integers(0, 40))
def test_a_plan_neither_loses_nor_repeats_what_it_does_not_tell(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, applied: set[int], to: int
) -> None:
    """Against sets: what is known afterwards, what is told as repeated, and as skipped."""
    chosen = config(tmp_path_factory.getbasetemp())
    below = data.draw(st.integers(0, 40))
    applied = applied | set(range(below))
    change = planned(chosen, to, LedgerEntry(applied=tuple(ranges_of(applied))), None, end=41)
    (reset,) = resets_of({SOURCE: Claim("g", SOURCE, _ID)}, [change])
    known = {offset for first, last in reset.applied for offset in range(first, last)}
    assert set(range(to)) <= known
    assert change.again == len({offset for offset in applied if offset not in known})
    assert change.skipped == len(known - applied)
    if to >= change.begin:
        assert applied <= known


def test_without_a_ledger_what_stays_applied_travels_in_the_commit(tmp_path: Path) -> None:
    chosen = config(tmp_path, "at-least-once")
    known = Committed(5, encode(5, [(8, 10), (20, 22)]))
    forward = commits_of(chosen, [planned(chosen, 9, LedgerEntry(), known)])[SOURCE]
    assert (forward.offset, unfold(forward.metadata, 9)) == (9, {20, 21})
    back = planned(chosen, 4, LedgerEntry(), known)
    assert (back.again, commits_of(chosen, [back])[SOURCE]) == (5, Committed(4, ""))


def test_the_summary_names_what_follows(tmp_path: Path) -> None:
    back = PartitionMove(SOURCE, "db0", 50, 40, 10, 0, (), ())
    ahead = PartitionMove(SOURCE, "db0", 50, 60, 0, 10, (), ())
    text = "\n".join(rewind_lines(config(tmp_path), [back]))
    assert "they count again in the column merged with add: visits" in text
    assert "skipped records" not in text
    text = "\n".join(rewind_lines(config(tmp_path), [ahead]))
    assert "skipped records are never applied" in text
    assert "count again" not in text
    assert "lane" not in text


@pytest.mark.parametrize(
    ("to", "move", "told"),
    [
        (40, LaneMove.BACK, "2 lanes: what waits there goes on waiting; what they applied from 40"),
        (50, LaneMove.STAY, "2 lanes: what waits there goes on waiting"),
        (60, LaneMove.SKIP, "2 lanes: what waits there below 60 is skipped for good too"),
    ],
)
def test_the_lanes_of_a_partition_go_along(
    exactly_once: Config, to: int, move: LaneMove, told: str
) -> None:
    """Where nothing moves, as at the second of two equal rewinds, nothing that waits is skipped."""
    change = planned(exactly_once, to, LedgerEntry(applied=((0, 50),), lanes=2), None, end=70)
    (reset,) = resets_of({SOURCE: Claim("g", SOURCE, _ID)}, [change])
    assert (reset.lanes, reset.to) == (move, to)
    assert any(told in line for line in rewind_lines(exactly_once, [change]))
    assert rewind_json(exactly_once, [change], done=False)["partitions"][0]["lanes"] == move.value


def test_the_table_of_a_rewind_is_in_the_order_of_the_partitions(tmp_path: Path) -> None:
    moves = [
        PartitionMove(TopicPartition("sessions", n), "db0", 50, 40, 10, 0, (), ())
        for n in (10, 1, 0, 2)
    ]
    lines = list(rewind_lines(config(tmp_path), moves))
    assert [line.split()[0] for line in lines[2:6]] == [f"sessions-{n}" for n in (0, 1, 2, 10)]


def test_a_dead_letter_that_is_named_and_not_there_is_told() -> None:
    """`replay 99` said that nothing was replayed, as if nothing had been wanted."""
    found = Found(letters=[letter()])
    found.demand([(None, 3), (0, 3)], "sessions")
    with pytest.raises(PipelineError, match="group sessions that matches is at 99, 1:3:"):
        found.demand([(None, 99), (None, 3), (1, 3)], "sessions")


class FailingOver:
    """A cluster that applies 100 records a second, and whose first answer takes 12 s."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delays = [12.0]

    def monotonic(self) -> float:
        return self.now

    def committed(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        return {source: Committed(int(self.now * 100), "") for source in sources}

    def bounds(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        self.now += self.delays.pop() if self.delays else 0.01
        return {source: (0, int(self.now * 100)) for source in sources}

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, 0)]

    def first_records(self, *_: object) -> dict[TopicPartition, None]:
        return {}


def test_a_slow_answer_is_not_taken_for_lag(
    exactly_once: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends came 12 s after what was committed: 5,197 waited where nearly nothing did."""
    cluster: Any = FailingOver()
    monkeypatch.setattr("pipeline.operate.lag.time.monotonic", cluster.monotonic)
    (lag,) = measure(cluster, exactly_once)
    assert lag.message_lag <= 1


class RecordingCluster:
    """A cluster that notes what is committed to it."""

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self._steps.append(f"kafka {offsets[SOURCE].offset}")


def carried_out(
    config: Config, monkeypatch: pytest.MonkeyPatch, failure: BaseException | None = None
) -> list[str]:
    """The steps of a rewind to offset 40, in order; ``failure`` ends it amid the ledgers."""
    steps: list[str] = []

    async def reset(
        _: Config, resets: Iterable[ledgers.Reset], on_progress: Callable[[str], object]
    ) -> None:
        if failure is not None:
            raise failure
        steps.append(f"ledger {[reset.applied for reset in resets]}")
        on_progress("db0")

    monkeypatch.setattr(ledgers, "reset", reset)
    move = PartitionMove(SOURCE, "db0", 50, 40, 10, 0, (), ())
    claims = {SOURCE: Claim("g", SOURCE, _ID)} if config.pipeline.exactly_once else {}
    cluster: Any = RecordingCluster(steps)
    planned = RewindPlan([move], claims)
    with suppress(PipelineError):
        carry_out(cluster, config, planned, steps.append, lambda text: steps.append(text[-9:]))
    return steps


def test_the_group_is_moved_before_the_ledgers(
    exactly_once: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round an instance that starts in between would apply records twice."""
    assert carried_out(exactly_once, monkeypatch) == [
        "kafka 40",
        "the group's offsets are set",
        "ledger [((0, 40),)]",
        "the ledger is set in shard db0",
    ]


def test_cut_off_between_group_and_ledgers_it_says_how_to_finish(
    exactly_once: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = carried_out(exactly_once, monkeypatch, PipelineError("the cable was cut"))
    assert steps == ["kafka 40", "the group's offsets are set", "committed"]


def test_without_a_ledger_only_the_group_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = carried_out(config(tmp_path, "at-least-once"), monkeypatch)
    assert steps == ["kafka 40", "the group's offsets are set"]


# Dead letters


def letter(sqlstate: str | None = "22003", **raw: bytes | None) -> DeadLetter:
    refused = record(7, "user-1", {"id": 1})
    rejection = DeadLetterReason("value out of range", "NumericValueOutOfRangeError", sqlstate)
    headers = [("mine", b"1"), *headers_of(refused, rejection, "sessions")]
    found = parse(PLACE, Raw(3, raw.get("key", b"user-1"), raw.get("value", b"{}"), headers))
    assert found is not None
    return found


def test_a_dead_letter_is_read_as_it_was_written() -> None:
    found = letter()
    assert (found.place, found.offset) == (PLACE, 3)
    assert (found.source, found.source_offset) == (SOURCE, 7)
    assert (found.sqlstate, found.error) == ("22003", "NumericValueOutOfRangeError")
    assert (found.group, found.attempts) == ("sessions", "1")
    assert found.own_headers == [("mine", b"1")]
    assert abs(datetime.now(UTC) - found.failed_at) < timedelta(hours=1)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("__connect.errors.topic", b"t")],
        [
            ("__connect.errors.topic", b"t"),
            ("__connect.errors.partition", b"x"),
            ("__connect.errors.offset", b"1"),
        ],
    ],
)
def test_a_record_that_does_not_say_where_it_was_is_no_dead_letter(
    headers: list[tuple[str, bytes | None]],
) -> None:
    assert parse(PLACE, Raw(headers=headers)) is None


def test_filters_without_an_sqlstate() -> None:
    assert not Filter(error="22").matches(letter(sqlstate=None))
    assert Filter(error="NumericValueOutOfRangeError").matches(letter(sqlstate=None))
    assert Filter(error="22p").matches(letter(sqlstate="22P02"))
    assert not Filter(key="").matches(letter())
    assert Filter(offsets=((None, 3),)).matches(letter())
    assert not Filter(offsets=((1, 3),)).matches(letter())


def test_a_marker_survives_compaction() -> None:
    first, second = (marker("g", "replayed", [letter()]) for _ in range(2))
    assert first["key"] != second["key"]
    assert orjson.loads(first["value"]) == {"group": "g", "replayed": [[3, 4]]}


def test_values_are_shown_as_what_they_are() -> None:
    assert pretty(b'{"a":[1]}') == '{\n  "a": [\n    1\n  ]\n}'
    assert pretty(b"plain") == "plain"
    assert pretty(b"\xff") == "\\xff"
    assert pretty(None) == "  (null: a tombstone)"


# Lag


@given(
    st.one_of(st.none(), st.integers(0, 100)),
    st.integers(0, 100),
    st.integers(0, 100),
    st.booleans(),
)
def test_the_watermark_is_always_within_the_log(
    committed: int | None, start: int, length: int, latest: bool
) -> None:
    end = start + length
    found = lag.watermark(committed, start, end, latest=latest)
    assert start <= found <= end
    if committed is not None and start <= committed <= end:
        assert found == committed


def lagging(messages: int, age: float | None) -> lag.PartitionLag:
    return lag.PartitionLag(SOURCE, 0, 100, 100 - messages, messages, age)


def test_totals_admit_what_is_not_known() -> None:
    assert lag.totals([lagging(3, 1.0), lagging(4, 9.0)]) == (7, 9.0)
    assert lag.totals([lagging(3, 1.0), lagging(4, None)]) == (7, None)
    assert lag.totals([]) == (0, 0.0)


def test_ages() -> None:
    assert age_of(9_000, 10.0) == 1.0
    assert age_of(11_000, 10.0) == 0.0  # a clock that runs ahead
    assert age_of(-1, 10.0) == 0.0
    assert age_of(None, 10.0) == 0.0


@pytest.mark.parametrize(
    "command", ["lag", "rewind", "dlq list", "dlq show", "dlq replay", "dlq drop"]
)
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert f"example:\n  pipeline {command} " in capsys.readouterr().out
