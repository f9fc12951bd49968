"""Polls beside a join, on kafka-python's own I/O loop, with a stand-in for the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kafka.errors import GroupAuthorizationFailedError, KafkaTimeoutError
from kafka.future import Future
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from pipeline.kafka.polls import Polls

LONG = 5.0
"""Seconds that no test waits."""


class Stand:
    """A consumer whose group is joined when, and as, the test says."""

    def __init__(self, net: NetworkSelector) -> None:
        self.config = {"max_poll_records": 10, "fetch_max_wait_ms": 500}
        self._net = net
        self._manager = SimpleNamespace(
            wait_for=partial(cast(Any, KafkaConnectionManager).wait_for, SimpleNamespace(_net=net))
        )
        self._fetcher = self._coordinator = self
        self._send_heartbeat_request: Any = None
        self._next_partition_records = None
        self._fetch_futures = [Future()]
        self.joins: list[Future] = []
        self.joined = False
        self.rejoining = False
        self.requested = 0
        self.fetched: list[dict[str, list[int]]] = []
        self.sent = 0
        self.surprised = False
        self.then: list[Callable[[], Any]] = []
        """What comes while a poll waits: one for each time that it has sent its fetches."""

    def need_rejoin(self) -> bool:
        return not self.joined

    def request_rejoin(self) -> None:
        self.requested += 1

    async def ensure_active_group_async(self, timeout_ms: float) -> bool:
        del timeout_ms
        assert self.requested > len(self.joins), "the reason to join must last until it is done"
        self.joins.append(Future())
        self.joined = await self.joins[-1]
        return self.joined

    def fetched_records(self, limit: int) -> tuple[dict[str, list[int]], bool]:
        assert limit == 10
        return (self.fetched.pop(0) if self.fetched else {}), False

    async def _send_fetches_async(self) -> None:
        self.sent += 1
        if self.then:
            self._net.call_soon(self.then.pop(0))

    def _poll_once(self, timer: Any, limit: int) -> dict[str, list[int]]:
        """As kafka-python's: joins if there is a reason, and returns nothing if the time is over."""
        del timer, limit
        if self.surprised:
            self.surprised = self.joined = False
        if self.need_rejoin() and not self.ensure_active_group(timeout_ms=0.0):
            return {}
        return {"joined": [1]}

    def ensure_active_group(self, timeout_ms: float) -> bool:
        del timeout_ms
        raise AssertionError("kafka-python's own poll would wait for the join")

    async def arrive(self) -> None:
        """What a fetch response does."""
        self.fetched.append({"stays": [2]})
        self._fetch_futures[0].success(None)

    def ending(self, end: Any, steps: int = 0) -> Callable[[], Any]:
        """What lets the join end in a result or an error, so many steps of the loop later."""

        async def ends() -> None:
            for _ in range(steps):
                await self._net.sleep(0)
            join = self.joins[-1]
            join.success(end) if isinstance(end, bool) else join.failure(end)

        return ends


def polls_of(stand: Any) -> Any:
    """The polls of a stand-in, which is no consumer to the type checker."""
    return Polls(stand)


@pytest.fixture
def stand() -> Iterator[Stand]:
    net = NetworkSelector(client_id="test")
    net.start()
    yield Stand(net)
    net.stop()
    net.close()


def test_what_was_fetched_is_handed_out_and_more_is_fetched_while_the_group_is_joined(
    stand: Stand,
) -> None:
    polls = polls_of(stand)
    stand.fetched = [{"stays": [0]}, {"stays": [1]}]
    assert [polls.poll(LONG), polls.poll(LONG)] == [{"stays": [0]}, {"stays": [1]}]
    assert (len(stand.joins), stand.sent) == (1, 2), "one join, however many polls"
    stand.then = [stand.arrive]
    assert polls.poll(LONG) == {"stays": [2]}, "a poll that waits is woken by what arrives"


def test_a_poll_goes_on_as_kafka_python_has_it_when_the_group_is_joined(stand: Stand) -> None:
    stand.then = [stand.ending(True)]
    assert polls_of(stand).poll(LONG) == {"joined": [1]}


def test_a_reason_to_join_that_comes_while_a_poll_begins_holds_up_nothing(stand: Stand) -> None:
    """The poll waited for the join, and so for the drain: partitions that stay stood still for it."""
    stand.joined = stand.surprised = True
    stand.then = [stand.arrive]
    assert polls_of(stand).poll(LONG) == {"stays": [2]}
    assert len(stand.joins) == 1


@pytest.mark.parametrize("end", [False, KafkaTimeoutError()])
def test_a_join_that_ran_out_of_time_is_started_again(stand: Stand, end: Any) -> None:
    stand.then = [stand.ending(end), stand.arrive]
    assert polls_of(stand).poll(LONG) == {"stays": [2]}
    assert len(stand.joins) == 2


def test_a_join_that_fails_fails_a_poll_and_the_next_one_joins_again(stand: Stand) -> None:
    polls = polls_of(stand)
    stand.then = [stand.ending(GroupAuthorizationFailedError("group"))]
    with pytest.raises(GroupAuthorizationFailedError):
        polls.poll(LONG)
    assert polls.poll(0.0) == {}
    assert len(stand.joins) == 2


def test_a_join_that_was_left_unfinished_is_taken_up_again(stand: Stand) -> None:
    """Whoever started it, and though kafka-python sees no more reason to join."""
    stand.joined, stand.rejoining = True, True
    assert polls_of(stand).poll(0.0) == {}
    assert len(stand.joins) == 1


@pytest.mark.parametrize("end", [True, GroupAuthorizationFailedError("group")])
def test_the_end_waits_for_the_join(stand: Stand, end: Any) -> None:
    """A join that went on after the close would take partitions that nobody looks after."""
    polls = polls_of(stand)
    assert polls.poll(0.0) == {}
    stand._net.call_soon_threadsafe(stand.ending(end, steps=1000))
    polls.end()
    assert stand.joins[0].is_done
    polls.end()  # nothing is left to wait for


@pytest.mark.parametrize(("seconds", "wait_ms"), [(0.025, 25), (0.5, 500), (LONG, 500)])
def test_a_fetch_waits_no_longer_than_its_poll_or_as_configured(
    stand: Stand, seconds: float, wait_ms: int
) -> None:
    """A broker has one fetch at a time: one of empty partitions held up the resumed ones."""
    stand.joined = True
    polls = polls_of(stand)
    for asked in (LONG, seconds):
        assert polls.poll(asked)
    assert stand.config["fetch_max_wait_ms"] == wait_ms
