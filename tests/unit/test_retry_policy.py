"""What can't be applied and waits in a lane: what the configuration says, and what a batch leaves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.config.retries import HANDLER_RETRY, PASSING, REFUSING
from pipeline.contracts.lane import LaneReason
from pipeline.contracts.setback import Setback
from pipeline.postgres.connections.errors import (
    RULES,
    HandlerFailed,
    HandlerRetry,
    Verdict,
)
from pipeline.postgres.store import retry_policy
from pipeline.postgres.store.retry_policy import RetryPolicy
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support.records import record
from tests.support.stores import World, raising, records, refusing, server_error

REASON = DeadLetterReason("no such parent", "ForeignKeyViolationError", "23503")


def always(record: Record) -> bool:
    del record
    return True


def policy(seconds: Mapping[str, float] | None = None, *, hold_key: bool = False) -> RetryPolicy:
    return RetryPolicy(seconds, hold_key=hold_key, may_wait=always)


def test_by_default_nothing_waits() -> None:
    assert policy().failure_of(record(1, "k"), REASON) is None


@pytest.mark.parametrize("name", ["23503", "23"])
def test_the_state_or_its_class_says_how_long(name: str) -> None:
    failure = policy({name: 600.0}).failure_of(record(1, "k"), REASON)
    assert failure is not None
    assert (failure.seconds, failure.reason) == (600.0, LaneReason.RETRY)
    assert policy({"22": 600.0}).failure_of(record(1, "k"), REASON) is None


def test_the_state_goes_before_its_class() -> None:
    failure = policy({"23": 600.0, "23503": 5.0}).failure_of(record(1, "k"), REASON)
    assert failure is not None
    assert failure.seconds == 5.0


@pytest.mark.parametrize(("seconds", "reason"), [({}, "reject"), ({"23": 5.0}, "retry")])
def test_a_held_key_has_no_end(seconds: dict[str, float], reason: str) -> None:
    failure = policy(seconds, hold_key=True).failure_of(record(1, "k"), REASON)
    assert failure is not None
    assert (failure.seconds, failure.reason.value) == (None, reason)


def test_what_can_have_no_lane_is_a_dead_letter_as_ever() -> None:
    refused = RetryPolicy({"23": 5.0}, hold_key=True).failure_of(record(1, "k"), REASON)
    assert refused is None


# A batch


async def left_of(
    nursery: trio.Nursery, batch: list[Record], answer: Any, of: RetryPolicy
) -> tuple[World, Setback | None]:
    world = World(nursery, policy=of)
    world.database.always = answer
    partition = await world.open()
    return world, await partition.apply(0, batch)


async def test_a_refused_record_is_left_with_what_stands_behind_it(nursery: trio.Nursery) -> None:
    batch = [record(offset, key) for offset, key in enumerate("ababcb")]
    world, setback = await left_of(nursery, batch, refusing(1), policy({"22": 5.0}))
    assert setback is not None
    assert [failure.record.offset for failure in setback.failures] == [1]
    assert [each.offset for each in setback.records] == [1, 3, 5]
    assert sorted(world.database.applied) == [0, 2, 4]
    assert setback.decided(batch) == [batch[0], batch[2], batch[4]]
    assert not world.dead_letters.kept


async def test_two_of_one_batch_are_left_each_with_its_own(nursery: trio.Nursery) -> None:
    batch = [record(offset, key) for offset, key in enumerate("aabbc")]
    _, setback = await left_of(nursery, batch, refusing(0, 2), policy(hold_key=True))
    assert setback is not None
    assert sorted(failure.record.offset for failure in setback.failures) == [0, 2]
    assert [each.offset for each in setback.records] == [0, 1, 2, 3]


async def test_what_is_not_for_waiting_is_a_dead_letter_beside_it(nursery: trio.Nursery) -> None:
    batch = [record(offset, key) for offset, key in enumerate("abc")]

    def answer(written: Any) -> None:
        offsets = {each.offset for each in written}
        if 0 in offsets:
            raise server_error("22003")
        if 1 in offsets:
            raise server_error("23503")

    world, setback = await left_of(nursery, batch, answer, policy({"23503": 5.0}))
    assert setback is not None
    assert [each.offset for each in setback.records] == [1]
    assert [offset for offset, _ in world.dead_letters.kept] == [0]
    assert (world.database.applied, world.database.marked) == ([2], [0])


async def test_an_unreadable_record_holds_what_stands_behind_it(nursery: trio.Nursery) -> None:
    batch = [record(offset, key) for offset, key in enumerate("aaab")]
    batch[1].disposition = DeadLetterReason("the value is not JSON", "DecodeError")
    world, setback = await left_of(nursery, batch, lambda _: None, policy(hold_key=True))
    assert setback is not None
    assert [each.offset for each in setback.records] == [1, 2]
    assert sorted(world.database.applied) == [0, 3]


async def test_a_suspect_that_is_guilty_waits_too(nursery: trio.Nursery) -> None:
    batch = [record(offset, key) for offset, key in enumerate("abca")]

    def answer(written: Any) -> None:
        if any(each.offset == 0 for each in written):
            raise server_error("P0002")

    world, setback = await left_of(nursery, batch, answer, policy({"P0": 5.0}))
    assert setback is not None
    assert [each.offset for each in setback.records] == [0, 3]
    assert sorted(world.database.applied) == [1, 2]


async def test_a_handlers_retry_gets_an_end_and_holds_up_nobody(nursery: trio.Nursery) -> None:
    batch = [record(offset, key) for offset, key in enumerate("abca")]

    def answer(written: Any) -> None:
        if any(each.offset == 0 for each in written):
            raise HandlerFailed(list(written), HandlerRetry("item a is not in stock"))

    world, setback = await left_of(nursery, batch, answer, policy({HANDLER_RETRY: 5.0}))
    assert setback is not None
    (failure,) = setback.failures
    assert (failure.record.offset, failure.seconds) == (0, 5.0)
    assert "item a" not in failure.why.reason
    assert failure.why.kind == "handler"
    assert [each.offset for each in setback.records] == [0, 3]
    assert sorted(world.database.applied) == [1, 2]


async def test_a_database_that_is_away_sets_nothing_back(nursery: trio.Nursery) -> None:
    world = World(nursery, policy=policy({"23": 5.0}, hold_key=True))
    world.database.answers = [raising(ConnectionResetError())]
    partition = await world.open()
    assert await partition.apply(0, records(3)) is None
    assert world.database.applied == [0, 1, 2]


# The configuration

BASE = """\
[pipeline]
name = "p"
{pipeline}
[kafka]
bootstrap_servers = "k:1"
topics = "t"
[records]
key = {key}
[[shards]]
name = "db0"
dsn = "postgresql://h/db"
[sink]
{sink}
[errors]
{errors}
"""
TABLE = 'table = "t"\nprimary_key = "id"\n[sink.columns]\nid = "id"'


def mistakes(
    tmp_path: Path, errors: str, *, pipeline: str = "", key: str = '"id"', sink: str = TABLE
) -> list[str]:
    path = tmp_path / "p.toml"
    path.write_text(BASE.format(errors=errors, pipeline=pipeline, key=key, sink=sink))
    try:
        load(path)
    except ConfigError as error:
        return [f"{each.key}: {each.message}" for each in error.mistakes]
    return []


def test_errors_have_their_times(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    errors = 'on_reject = "hold-key"\n[errors.retry]\n"23503" = "10m"\nP0 = 5'
    path.write_text(BASE.format(errors=errors, pipeline="", key='"id"', sink=TABLE))
    found = load(path).errors
    assert (found.on_reject, dict(found.retry)) == ("hold-key", {"23503": 600.0, "P0": 5.0})


@pytest.mark.parametrize(
    ("errors", "other", "said"),
    [
        ('on_reject = "hold"', {}, "errors.on_reject: expected"),
        ("retry = 3", {}, "errors.retry: expected a table"),
        ('retry.23503 = "soon"', {}, "errors.retry.23503: expected a duration"),
        ('retry.fk = "1m"', {}, "expected a SQLSTATE"),
        ('retry.HandlerRety = "1m"', {}, 'did you mean "HandlerRetry"'),
        ('retry.55P03 = "1m"', {}, "tried again without end"),
        ('retry.08006 = "1m"', {}, "tried again without end"),
        ('retry.HandlerRetry = "1m"', {}, "no use without sink.handler"),
        ('retry.23 = "1m"', {"pipeline": 'delivery = "at-least-once"'}, "exactly-once"),
        ('on_reject = "hold-key"', {"key": '["a", "b"]'}, "needs records.tenant"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, errors: str, other: dict[str, str], said: str) -> None:
    (mistake,) = mistakes(tmp_path, errors, **other)
    assert said in mistake


def test_the_states_that_may_wait_are_those_that_refuse_records() -> None:
    refusing = {rule.prefix: rule.verdict in (Verdict.REJECT, Verdict.SUSPECT) for rule in RULES}
    for prefix, refuses in refusing.items():
        listed = prefix.startswith(REFUSING) and prefix not in PASSING
        assert listed == refuses, prefix
    assert all(re.fullmatch("[0-9A-Z]{2}", each) for each in REFUSING)
    assert retry_policy.HANDLER_RETRY == HANDLER_RETRY
