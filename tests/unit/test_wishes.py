"""What operators wish: who is told of a change, when a wish ends by itself, and how it is written."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pipeline.contracts.rule import Plain, Rule
from pipeline.contracts.wish import AnyWish, Hold, HoldState, Pause, RateLimit, Scope
from pipeline.contracts.wish_codec import Unreadable, decode, encode, id_of, key_of, to_json
from pipeline.contracts.wishes import Wishes
from pipeline.records.record import TopicPartition

SOURCE = TopicPartition("events", 3)


def pause(wish_id: str = "p1", until: int | None = None, **scope: Any) -> Pause:
    what = Scope(**scope) if scope else Scope(topic="events")
    return Pause(id=wish_id, by="ada@host", since=1000, until=until, why="vacuum", what=what)


def hold(value: Plain = "a-1", state: HoldState = HoldState.HOLDING, **extra: Any) -> Hold:
    return Hold(
        id="h1",
        by="ada@host",
        since=5,
        rule=Rule("key", value),
        state=state,
        changed=5,
        extra=extra,
    )


# Who is told


async def test_a_change_wakes_whoever_waits_for_one(autojump_clock: MockClock) -> None:
    wishes = Wishes(trio.current_time)
    seen = wishes.version
    woken: list[int] = []

    async def wait() -> None:
        woken.append(await wishes.changed(seen))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        wishes.put(pause())
    assert woken == [wishes.version, wishes.version]


async def test_a_change_between_reading_and_waiting_is_not_missed() -> None:
    wishes = Wishes()
    seen = wishes.version
    wishes.put(pause())
    assert await wishes.changed(seen) == wishes.version


async def test_what_was_known_already_wakes_nobody() -> None:
    wishes = Wishes()
    wishes.put(pause())
    seen = wishes.version
    wishes.put(pause())
    wishes.replace([pause()])
    wishes.remove("never known")
    assert wishes.version == seen


async def test_a_wish_ends_by_itself_and_wakes_whoever_waits(autojump_clock: MockClock) -> None:
    wishes = Wishes(trio.current_time)
    wishes.put(pause(until=int(trio.current_time() + 200) * 1000))
    assert wishes.pauses()
    started = trio.current_time()
    await wishes.changed(wishes.version)
    assert 199 <= trio.current_time() - started <= 200.1
    assert wishes.pauses() == []


async def test_a_wish_that_is_over_when_it_is_learnt_is_none() -> None:
    wishes = Wishes(lambda: 10.0)
    wishes.replace([pause("p1", until=10_000), pause("p2", until=10_001)])
    assert [each.id for each in wishes.pauses()] == ["p2"]


async def test_all_of_the_topic_replaces_what_was_known() -> None:
    wishes = Wishes()
    wishes.put(pause("p1"))
    wishes.replace([hold(), pause("p2")])
    assert [each.id for each in wishes.pauses()] == ["p2"]
    assert [each.id for each in wishes.holds()] == ["h1"]
    wishes.remove("p2")
    assert wishes.pauses() == []


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope(shard="db0"), True),
        (Scope(shard="db1"), False),
        (Scope(topic="events"), True),
        (Scope(topic="others"), False),
        (Scope(topic="events", partition=3), True),
        (Scope(topic="events", partition=4), False),
    ],
)
def test_a_pause_covers_what_it_names(scope: Scope, covered: bool) -> None:
    assert scope.covers(SOURCE, "db0") is covered


@pytest.mark.parametrize(
    "given", [{}, {"shard": "a", "topic": "b"}, {"shard": "a", "partition": 1}]
)
def test_a_pause_of_nothing_or_of_two_things_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a pause"):
        Scope(**given)


async def test_the_oldest_pause_tells_why_a_partition_waits() -> None:
    wishes = Wishes()
    younger = attrs.evolve(pause("p0"), since=2000)
    wishes.replace([younger, pause("p9", shard="db0")])
    found = wishes.pause_of(SOURCE, "db0")
    assert found is not None
    assert found.id == "p9"
    assert wishes.pause_of(TopicPartition("others", 0), "db1") is None


# How they are written

TEXT = st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
PLAIN = (
    TEXT.filter(lambda t: not _half(t)) | st.booleans() | st.integers() | st.floats(-1e300, 1e300)
)


def _half(text: str) -> bool:
    """Whether it holds surrogates that stand for no byte: a path never gives such text."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") != text


@given(PLAIN)
def test_a_key_comes_back_as_it_was(value: Plain) -> None:
    wish = hold(value)
    read = decode(key_of(wish), encode(wish))
    assert isinstance(read, Hold)
    assert read == wish
    assert type(read.rule.value) is type(value)


@pytest.mark.parametrize(
    "wish",
    [
        hold(12),
        hold(b"\xff".decode("utf-8", "surrogateescape"), HoldState.DROP_FIRST),
        attrs.evolve(hold(), rule=Rule("tenant", "app-7"), until=77),
        pause(shard="db0"),
        pause(topic="events", partition=0),
        RateLimit(id="l1", by="b", since=1, tenant="app-7", rate=0.5),
    ],
    ids=str,
)
def test_a_wish_comes_back_as_it_was(wish: AnyWish) -> None:
    assert decode(key_of(wish), encode(wish)) == wish
    assert id_of(key_of(wish)) == wish.id


def test_the_form_of_a_wish_is_what_the_documents_say() -> None:
    assert json.loads(encode(hold(b"\xff".decode("utf-8", "surrogateescape")))) == {
        "kind": "hold", "id": "h1", "by": "ada@host", "since": 5, "until": None, "why": "",
        "rule": {"key": {"base64": "/w=="}}, "state": "holding", "changed": 5,
    }  # fmt: skip
    assert to_json(pause(topic="t", partition=0))["what"] == {"topic": "t", "partition": 0}
    assert key_of(pause()) == b"pause/p1"


def test_fields_of_a_newer_version_are_kept() -> None:
    wish = hold(priority=3)
    read = decode(key_of(wish), encode(wish))
    assert json.loads(encode(attrs.evolve(read, why="other")))["priority"] == 3


def test_a_hold_in_a_state_of_a_newer_version_is_held() -> None:
    text = json.dumps({**to_json(hold()), "state": "evaporating"}).encode()
    read = decode(b"hold/h1", text)
    assert isinstance(read, Hold)
    assert read.state is HoldState.HOLDING


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (b"heartbeat/i1", b"{}", "the kind 'heartbeat' is not known"),
        (None, b"{}", "the kind '' is not known"),
        (b"hold/h1", b"{", "hold h1 is not JSON"),
        (b"hold/h1", b"[]", "hold h1 is not a JSON object"),
        (b"hold/h1", b"{}", "hold h1 can't be read"),
        (b"hold/h1", b'{"by": "a", "since": "x", "rule": {"key": 1}}', "expected a whole number"),
        (b"hold/h1", b'{"by": "a", "since": 1, "rule": {"moon": 1}}', "rule by moon is not known"),
        (b"hold/h1", b'{"by": "a", "since": 1, "rule": {"key": null}}', "text, a number"),
        (b"pause/p1", b'{"by": "a", "since": 1, "what": {"planet": "x"}}', "not known"),
        (b"limit/l1", b'{"by": "a", "since": 1, "tenant": "x", "rate": -1}', "0 or more"),
        (b"limit/l1", b'{"by": "a", "since": 1, "tenant": "x", "rate": NaN}', "0 or more"),
    ],
)
def test_what_is_no_wish_says_why(key: bytes | None, value: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        decode(key, value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("app-7", "key app-7"), (12, "key 12"), ("12", 'key "12"'), (True, "key true"),
        ("true", 'key "true"'), (" a", 'key " a"'), ("", 'key ""'),
        (b"\xff".decode("utf-8", "surrogateescape"), "key \\xff"),
    ],
)  # fmt: skip
def test_a_rule_shows_what_is_text_and_what_is_a_number(value: Plain, shown: str) -> None:
    assert str(Rule("key", value)) == shown
