"""OffsetQueries of the same moment go in one request."""

from __future__ import annotations

from collections.abc import Collection

import trio
import trio.testing

from pipeline.consumer.request_batching import AGAIN_SECONDS, RequestBatcher


class Oracle:
    """Answers a number with its double, as slowly as the test says."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.errors: list[Exception] = []
        self.silent: set[int] = set()
        self.asking: trio.lowlevel.Task | None = None
        self.may_answer = trio.Event()
        self.gathering = RequestBatcher(self.ask)

    async def ask(self, numbers: Collection[int]) -> dict[int, int]:
        asked = sorted(numbers)
        self.asked.append(asked)
        self.asking = trio.lowlevel.current_task()
        await self.may_answer.wait()
        if self.errors:
            raise self.errors.pop(0)
        return {number: 2 * number for number in asked if number not in self.silent}


async def asker(oracle: Oracle, number: int, answers: dict[int, int]) -> None:
    answers[number] = await oracle.gathering.get(number)


async def test_those_who_ask_at_once_share_a_request_and_those_after_them_the_next() -> None:
    oracle, answers = Oracle(), dict[int, int]()
    async with trio.open_nursery() as nursery:
        for number in range(256):
            nursery.start_soon(asker, oracle, number, answers)
        await trio.testing.wait_all_tasks_blocked()
        assert oracle.asked == [list(range(256))]
        for number in (1000, 1001):
            nursery.start_soon(asker, oracle, number, answers)
        await trio.testing.wait_all_tasks_blocked()
        assert len(oracle.asked) == 1, "one at a time"
        oracle.may_answer.set()
    assert oracle.asked == [list(range(256)), [1000, 1001]]
    assert answers == {number: 2 * number for number in [*range(256), 1000, 1001]}


async def test_nothing_is_kept_for_those_who_ask_later() -> None:
    oracle = Oracle()
    oracle.may_answer.set()
    assert [await oracle.gathering.get(1), await oracle.gathering.get(1)] == [2, 2]
    assert oracle.asked == [[1], [1]]


async def test_one_that_is_cancelled_while_it_asks_for_all_leaves_it_to_the_next() -> None:
    oracle, answers = Oracle(), dict[int, int]()
    scopes: dict[trio.lowlevel.Task | None, trio.CancelScope] = {}

    async def ask(number: int) -> None:
        with trio.CancelScope() as scope:
            scopes[trio.lowlevel.current_task()] = scope
            await asker(oracle, number, answers)

    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        scopes[oracle.asking].cancel()
        await trio.testing.wait_all_tasks_blocked()
        oracle.may_answer.set()
    assert oracle.asked == [[1, 2, 3], [1, 2, 3]]
    assert len(answers) == 2


async def test_an_error_is_told_to_the_one_who_asked_and_the_next_asks_again() -> None:
    oracle, answers = Oracle(), dict[int, int]()
    oracle.errors = [LookupError("no")]
    failed: list[int] = []

    async def ask(number: int) -> None:
        try:
            await asker(oracle, number, answers)
        except LookupError:
            failed.append(number)

    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        oracle.may_answer.set()
    assert oracle.asked == [[1, 2], [1, 2]]
    assert len(failed) == 1
    (served,) = {1, 2} - set(failed)
    assert answers == {served: 2 * served}


async def test_what_has_no_answer_is_asked_for_again_and_holds_up_nobody(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 (to be in force)
) -> None:
    oracle, answers = Oracle(), dict[int, int]()
    oracle.may_answer.set()
    oracle.silent = {2}
    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(asker, oracle, number, answers)
        await trio.sleep(10 * AGAIN_SECONDS)
        assert answers == {1: 2}
        assert oracle.asked[1:] == [[2]] * (len(oracle.asked) - 1)
        oracle.silent.clear()
    assert answers == {1: 2, 2: 4}
