"""The load of `bench.sync_async`: it does not wait for answers, so a stall can't hide behind itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from bench.harness.figures import percentile
from bench.harness.http_client import Client, post
from bench.harness.open_loop import NO_ANSWER, Shot, fire, in_turn, steps
from pipeline.local.ports import HOST

STALL_FROM, STALL_UNTIL = 10.0, 12.0
QUICK = 0.01
"""An endpoint that answers so quickly, but not between these."""


class Stalling:
    """The endpoint; its time begins when it is made."""

    def __init__(self) -> None:
        self.began = trio.current_time()

    async def send(self, _number: int, _due: float) -> int:
        now = trio.current_time() - self.began
        stalls = STALL_FROM <= now < STALL_UNTIL
        await trio.sleep(STALL_UNTIL - now if stalls else QUICK)
        return 200


def latencies(shots: Sequence[Shot]) -> list[float]:
    return sorted(shot.latency for shot in shots)


async def test_each_request_that_was_due_in_a_stall_waits_for_what_was_left_of_it(
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    endpoint = Stalling()
    shots = await fire(steps([(100, 20)]), endpoint.send)
    assert len(shots) == 2000
    for shot in shots:
        due = shot.due - endpoint.began
        left = STALL_UNTIL - due if STALL_FROM <= due < STALL_UNTIL else QUICK
        assert shot.latency == pytest.approx(left)
    # A tenth of 20 s: the upper tenth of the latencies is spread evenly over the stall's 2 s.
    assert percentile(latencies(shots), 0.95) == pytest.approx(1.0, abs=0.02)
    assert percentile(latencies(shots), 0.99) == pytest.approx(1.8, abs=0.02)


async def test_a_load_that_waits_for_answers_hides_the_same_stall(
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    """Why the schedule must not wait: this is what the other way would have reported."""
    endpoint = Stalling()
    shots = await in_turn(1500, endpoint.send)
    assert shots[-1].ended - endpoint.began > STALL_UNTIL, "the stall was met"
    assert percentile(latencies(shots), 0.999) == pytest.approx(QUICK)


async def test_what_is_sent_late_counts_from_when_it_was_due(autojump_clock: MockClock) -> None:
    async def blocking(number: int, _due: float) -> int:
        if number == 0:  # as if the generator itself had no processor for a second
            autojump_clock.jump(1.0)
        return 200

    first, second, third = await fire([0.0, 0.5, 1.5], blocking)
    assert first.latency == pytest.approx(1.0)
    assert second.latency == pytest.approx(0.5), "it was due half a second before"
    assert third.latency == pytest.approx(0.0)


async def test_the_phases_of_a_load_follow_each_other() -> None:
    dues = list(steps([(10, 2), (50, 1), (10, 1)]))
    assert Counter(int(due) for due in dues) == {0: 10, 1: 10, 2: 50, 3: 10}
    assert dues == sorted(dues)


async def test_a_request_that_is_never_answered_is_given_up_and_counted_with_its_time(
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    with trio.socket.socket() as server:
        await server.bind((HOST, 0))
        server.listen()
        client = Client(HOST, server.getsockname()[1], give_up=7.0)

        async def send(_number: int, due: float) -> int:
            return await client.send(post(HOST, "/", b"{}"), due)

        (shot,) = await fire([0.0], send)
    assert shot.status == NO_ANSWER
    assert not shot.good
    assert shot.latency == pytest.approx(7.0)


async def test_a_refused_connection_is_no_answer() -> None:
    with trio.socket.socket() as unused:
        await unused.bind((HOST, 0))
        client = Client(HOST, unused.getsockname()[1])
        assert await client.send(post(HOST, "/", b"{}"), trio.current_time()) == NO_ANSWER
