"""The whole group in one document: put together, and asked for over real sockets."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from pipeline.contracts.presence import STALE_SECONDS, Presence, Presences, TopicState
from pipeline.contracts.snapshot import Phase
from pipeline.dashboard.group import GroupView, merged
from pipeline.dashboard.history import merged_history
from pipeline.dashboard.model import ConsumerModel
from pipeline.dashboard.peers import Seen
from tests.support.dashboards import (
    AWAY,
    NOW,
    ONE,
    TOKEN,
    TWO,
    WORKS,
    Given,
    followed,
    present,
    served,
)


def seen(model: ConsumerModel, **fields: Any) -> Seen:
    """An instance that has answered; ``fields``: what it says otherwise."""
    return Seen(present(model, 1), {**model.state(), **fields})


def test_partitions_of_all_instances_are_shown_with_their_owner() -> None:
    mine = Given(partitions=[ONE]).model().state()
    found = merged(mine, [seen(Given("other", partitions=[TWO]).model())], whole=True)
    assert [(each["partition"], each["owner"]) for each in found["partitions"]] == [
        (0, "owner-me"),
        (1, "owner-other"),
    ]
    assert (found["message_lag"], found["time_lag_seconds"]) == (8, 9.0)


def test_a_partition_that_nobody_has_is_shown_and_makes_the_lag_unknown() -> None:
    mine = Given(partitions=[ONE], topics={"sessions": 2}).model().state()
    found = merged(mine, [], whole=True)
    assert [each["state"] for each in found["partitions"]] == ["running", "unknown"]
    assert found["message_lag"] is None
    assert len(merged(mine, [], whole=False)["partitions"]) == 1


def test_a_partition_that_is_handed_over_is_shown_once_with_its_newer_owner() -> None:
    drains = Given(partitions=[attrs.evolve(ONE, phase=Phase.DRAINING)]).model().state()
    opens = Given("new", partitions=[attrs.evolve(ONE, phase=Phase.OPENING)]).model()
    (shown,) = merged(drains, [seen(opens)], whole=True)["partitions"]
    assert (shown["owner"], shown["state"]) == ("owner-new", "taking over")


def test_a_shard_is_added_up_and_shown_as_its_worst() -> None:
    given = Given("other", shards=[WORKS])
    other = given.model()
    other.sample()
    given.metrics.apply_seconds.labels("db0").observe(0.5)
    other.sample()
    (shard,) = merged(Given(shards=[AWAY]).model().state(), [seen(other)], whole=True)["shards"]
    assert shard == {
        "shard": "db0", "state": "open", "limit": 7, "in_flight": 3, "busy": 5, "transactions": 1,
        "latency_seconds": 0.5, "instances": 2, "trouble": "away: refused",
    }  # fmt: skip


def test_dead_letters_are_added_up_and_a_pause_is_shown_once() -> None:
    mine, other = Given(), Given("other")
    for given, count in ((mine, 2), (other, 3)):
        given.metrics.dead_letter_kinds.labels("data").inc(count)
    pause = {"id": "p1", "what": "shard db0", "story": "by ada"}
    found = merged(
        {**mine.model().state(), "pauses": [pause]},
        [seen(other.model(), pauses=[pause])],
        whole=True,
    )
    assert found["dead_letters"] == {"data": 5}
    assert found["pauses"] == [pause]


def test_one_that_does_not_answer_is_shown_with_the_reason() -> None:
    silent = Seen(present(Given("gone").model(), 1), None, "connection refused")
    found = merged(Given().model().state(), [silent], whole=True)
    gone, me = found["instances"]
    assert (gone["owner"], gone["answers"], gone["problem"]) == (
        "owner-gone", False, "connection refused",
    )  # fmt: skip
    assert (me["owner"], me["answers"]) == ("owner-me", True)


def test_from_accepted_to_visible_each_instance_counts_by_its_records() -> None:
    one, two, idle = (
        Given().model().state(),
        Given("two").model().state(),
        Given("idle").model().state(),
    )
    one.update(visible=30, accepted_to_visible_seconds=1.0)
    two.update(visible=10, accepted_to_visible_seconds=5.0)
    others = [Seen(present(Given(told["id"]).model(), 1), told, "") for told in (two, idle)]
    assert merged(one, others, whole=True)["accepted_to_visible_seconds"] == 2.0
    assert merged(idle, [], whole=True)["accepted_to_visible_seconds"] is None


def test_histories_are_added_up_by_step() -> None:
    def told(role: str, *samples: Any, **more: Any) -> dict[str, Any]:
        return {"role": role, "owner": role, "samples": list(samples), **more}

    change = {"at": 1001.0, "gained": ["sessions-0"], "lost": []}
    found = merged_history(
        [
            told(
                "run",
                (1000.0, 9, 9, 9.0, 5, 9.0),
                (1001.0, 10, 5, 1.0, 30, 1.0),
                (1005.1, 20, None, 2.0),
                changes=[change],
            ),
            told(
                "run",
                (1001.0, 30, 6, 3.0, 10, 5.0),
                (1006.0, 40, 7, 1.0),
                changes=["odd", {"at": "x"}],
            ),
            told("ingest", (1002.0, 9, None, None)),
            told("run", "odd", samples="odd"),
        ]
    )
    assert found["samples"] == [
        (1000.0, 40, 11, 3.0, 9, 2.0), (1005.0, 60, None, 2.0, None, None),
    ]  # fmt: skip
    assert found["changes"] == [{**change, "owner": "run"}]


def test_one_that_missed_a_sample_counts_as_it_did_before() -> None:
    both = [
        {
            "role": "run",
            "samples": [(1000.0, 1, 100, 1.0), (1020.0, 1, 90, 1.0), (1100.0, 1, 0, 0)],
        },
        {"role": "run", "samples": [(1000.0 + 5 * n, 1, 1, 0.5) for n in range(21)]},
    ]
    lags = {sample[0]: sample[2] for sample in merged_history(both)["samples"]}
    assert [lags[1000.0 + 5 * n] for n in range(6)] == [101, 101, 101, 101, 91, 1]


@pytest.mark.parametrize(
    ("topic", "note"),
    [
        (TopicState.ABSENT, "which is not there"),
        (TopicState.FORBIDDEN, "no right to read"),
        (TopicState.UNKNOWN, "has not told"),
    ],
)
async def test_without_the_control_topic_the_page_says_that_it_shows_one_instance(
    topic: TopicState, note: str
) -> None:
    presences = Presences()
    presences.topic = topic
    state = await GroupView(Given().model(), presences).state()
    assert state["scope"] == "instance"
    assert state["note"].startswith("this instance only")
    assert note in state["note"]


async def test_any_instance_shows_the_others_with_the_token_that_they_share() -> None:
    other = Given("other", partitions=[TWO], shards=[WORKS]).model()
    other.sample()
    me = Given(partitions=[ONE]).model()
    async with served(other, tokens=[TOKEN]) as port:
        presences = followed(present(other, port), present(me, 1))
        group = GroupView(me, presences, [TOKEN], clock=lambda: NOW)
        state = await group.state()
        assert [each["answers"] for each in state["instances"]] == [True, True]
        assert [each["owner"] for each in state["partitions"]] == ["owner-me", "owner-other"]
        assert (state["scope"], state["note"]) == ("group", "")
        past = await group.past()
        assert (len(past["samples"]), past["without"]) == (1, [])
        stranger = await GroupView(me, presences, clock=lambda: NOW).state()
        (told,) = [each["problem"] for each in stranger["instances"] if not each["answers"]]
        assert "http.token must be the same" in told


async def problem_of(presence: Presence) -> list[str]:
    """Why another instance does not answer; empty if it is not shown at all."""
    me = Given().model()
    state = await GroupView(me, followed(presence), clock=lambda: NOW).state()
    return [each["problem"] for each in state["instances"] if not each["answers"]]


async def test_what_answers_in_its_place_is_not_taken_for_it() -> None:
    other = Given("other").model()
    async with served(Given("stranger").model()) as port:
        (told,) = await problem_of(present(other, port))
    assert told == "another program answers there"


async def test_one_that_listens_on_another_machine_only_is_told_so() -> None:
    (told,) = await problem_of(present(Given("other").model(), 1, machine="elsewhere"))
    assert "listens on its own machine only" in told


async def test_one_that_was_killed_is_shown_until_its_message_is_stale() -> None:
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    await listener[0].aclose()
    presence = present(Given("other").model(), port)
    assert len(await problem_of(presence)) == 1
    late = attrs.evolve(presence, at=int((NOW - STALE_SECONDS - 1) * 1000))
    assert await problem_of(late) == []


async def test_one_that_hangs_holds_up_nobody_and_is_not_asked_at_each_look(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 (asked for to be in force)
) -> None:
    asked = 0

    async def hang(stream: trio.SocketStream) -> None:
        nonlocal asked
        asked += 1
        async for _ in stream:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hang, 0)
        port = listeners[0].socket.getsockname()[1]
        group = GroupView(
            Given().model(), followed(present(Given("slow").model(), port)), clock=lambda: NOW
        )
        for _ in range(2):
            state = await group.state()
            (told,) = [each["problem"] for each in state["instances"] if not each["answers"]]
            assert told == "no answer within 2 s"
            await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert asked == 1
