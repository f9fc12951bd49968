"""What the commands for holds, pauses and limits read, decide and forget."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import attrs
import pytest

from pipeline.cli.limit import rate
from pipeline.contracts.rule import Rule
from pipeline.contracts.wish import AnyWish, Hold, HoldState, Pause, Scope
from pipeline.contracts.wish_codec import encode, key_of
from pipeline.errors import UsageError
from pipeline.operate import control
from pipeline.operate.moments import parse_span

DAY = 24 * 3600
NOW = 100.0 * DAY


def hold(state: HoldState = HoldState.HOLDING, changed: float = NOW, number: int = 1) -> Hold:
    rule = Rule("key", number)
    millis = int(changed * 1000)
    return Hold(id=f"h{number}", by="ada", since=number, rule=rule, state=state, changed=millis)


def pause(until: float | None = None, number: int = 1) -> Pause:
    end = None if until is None else int(until * 1000)
    return Pause(id=f"p{number}", by="ada", since=number, until=end, what=Scope(shard="db0"))


class Topic:
    """What `control` asks of a cluster: messages that are read, and taken."""

    def __init__(self, *wishes: AnyWish, **more: bytes) -> None:
        self.messages = {key_of(wish): encode(wish) for wish in wishes}
        self.messages |= {key.encode(): value for key, value in more.items()}
        self.written: dict[bytes, bytes | None] = {}

    def control_messages(self) -> Mapping[bytes, bytes]:
        return self.messages

    def write_control(self, messages: Mapping[bytes, bytes | None]) -> None:
        self.written.update(messages)


def read(*wishes: AnyWish, **more: bytes) -> control.Known:
    return control.read(Topic(*wishes, **more), lambda: NOW)  # type: ignore[arg-type]


def test_what_is_over_is_not_listed_and_not_found() -> None:
    known = read(pause(NOW, 1), pause(NOW + 1, 2), pause(None, 3))
    assert [each.id for each in known.of(Pause)] == ["p2", "p3"]
    assert known.find(Pause, "p2").id == "p2"
    with pytest.raises(UsageError, match="there is no pause p1: to see all, pipeline pause list"):
        known.find(Pause, "p1")


def test_what_can_not_be_read_is_told_and_the_rest_is_read() -> None:
    known = read(pause(), heartbeat=b"{}")
    assert [each.id for each in known.of(Pause)] == ["p1"]
    assert known.unreadable == ("the kind 'heartbeat' is not known to this version",)


def test_what_ended_long_ago_is_taken_back_by_the_next_command_that_writes() -> None:
    stale: list[AnyWish] = [
        pause(NOW - 2 * DAY, 1),
        hold(HoldState.RELEASED, NOW - 31 * DAY, 1),
        hold(HoldState.DROPPING, NOW - 31 * DAY, 2),
    ]
    fresh: list[AnyWish] = [
        pause(NOW - DAY / 2, 2),
        hold(HoldState.RELEASED, NOW - 29 * DAY, 3),
        hold(HoldState.HOLDING, NOW - 90 * DAY, 4),
    ]
    topic = Topic()
    new = pause(None, 9)
    control.keep(topic, read(*stale, *fresh), new)  # type: ignore[arg-type]
    taken_back: dict[bytes, bytes | None] = dict.fromkeys(map(key_of, stale))
    assert topic.written == {key_of(new): encode(new), **taken_back}


def test_each_change_of_a_hold_has_a_moment_of_its_own() -> None:
    first = control.change(hold(), HoldState.DROP_FIRST, NOW)
    again = control.change(first, HoldState.DROP_FIRST, NOW - 5)  # the clock was set back
    assert hold().changed < first.changed < again.changed


def test_what_is_released_does_not_come_back_when_its_time_is_over() -> None:
    timed = attrs.evolve(hold(), until=int(NOW + 5) * 1000)
    assert control.change(timed, HoldState.DROPPING, NOW).until is None
    assert control.change(timed, HoldState.DROP_FIRST, NOW).until == timed.until


@pytest.mark.parametrize("state", control.ENDED)
def test_a_hold_ends_once(state: HoldState) -> None:
    with pytest.raises(UsageError, match=r"hold h1 of key 1 was \w+ already"):
        control.change(hold(state), HoldState.RELEASED, NOW)


def test_an_id_is_short_and_new() -> None:
    made = {control.new_id(read(), Hold) for _ in range(50)}
    assert all(len(each) == 5 and each.startswith("h") for each in made)
    assert len(made) > 40


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), (" 3d ", 3 * DAY)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "-1h", "2w", "999999999d", "1h30m"])
def test_what_is_no_duration_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 90s, 15m, 2h or 3d"):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "given"), [("100/s", 100), ("600/m", 10), ("36/h", 0.01), ("0/s", 0)]
)
def test_a_rate_is_per_second(text: str, given: float) -> None:
    assert rate(text) == given


@pytest.mark.parametrize("text", ["100", "100/d", "-1/s", "1e3/s", "/s"])
def test_what_is_no_rate_says_what_one_is(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a rate such as 100/s"):
        rate(text)
