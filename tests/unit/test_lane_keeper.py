"""What a partition's owner does to its lanes: once each, whatever becomes of the answers."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from pipeline.contracts.lane import Lane, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.store import Fenced, ServerChanged
from pipeline.postgres.ledger.lease import Lease
from pipeline.records.disposition import DeadLetterReason
from tests.support.records import record
from tests.support.stores import CLAIM, World, records, server_error

LANE = Lane(1, Rule("key", "a"), LaneReason.HOLD, 10)
OF_LANE = attrs.evolve(CLAIM, lane=1)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


def test_a_lane_is_a_stream_of_its_own() -> None:
    assert (CLAIM.stream, OF_LANE.stream) == ("group/sessions", "group/sessions#1")
    assert OF_LANE.main == CLAIM
    assert CLAIM.main is CLAIM


async def test_a_lost_answer_is_settled_before_the_lane_is_opened_once_more(
    autojump_clock: MockClock, world: World
) -> None:
    """The first attempt may be on its way still: it would land after the lane was forgotten."""
    partition = await world.open()
    world.database.lane_errors = [ConnectionResetError()]
    await partition.open_lane(LANE)
    assert world.database.calls == ["take_over", "open 1", "resolve", "open 1"]
    assert world.database.lanes == {1: LANE}
    late = Lease(CLAIM, partition.writers, 1)
    with pytest.raises(Fenced):
        await world.database.open_lane(late, attrs.evolve(LANE, number=2))
    await partition.apply(0, records(3))  # its writers' leases are as they were
    await partition.close_lane(1, 20)
    assert world.database.lanes[1].until_offset == 20


async def test_what_was_refused_for_a_while_is_asked_again_as_it_was(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    world.database.lane_errors = [server_error("55P03")]
    await partition.open_lane(LANE)
    assert world.database.calls == ["take_over", "open 1", "open 1"]


async def test_who_lost_the_partition_changes_no_lane(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    await partition.open_lane(LANE)
    world.database.keeper_epoch += 1
    with pytest.raises(Fenced):
        await partition.close_lane(1, 20)
    with pytest.raises(Fenced):
        await world.store.open(OF_LANE)
    world.database.another_server = True
    with pytest.raises(ServerChanged):
        await partition.open_lane(attrs.evolve(LANE, number=2))
    assert world.database.lanes == {1: LANE}


async def test_numbers_only_grow(autojump_clock: MockClock, world: World) -> None:
    world.database.last_lane = 6
    partition = await world.open()
    assert partition.last_lane == 6
    with pytest.raises(ValueError, match="lane 6"):
        await partition.open_lane(attrs.evolve(LANE, number=6))
    await partition.open_lane(attrs.evolve(LANE, number=7))
    assert partition.last_lane == 7


async def test_a_lane_is_forgotten_though_the_answer_was_lost(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    assert await partition.forget_lanes() == []
    assert "forget" not in world.database.calls, "no question without a closed lane"
    await partition.open_lane(LANE)
    await partition.close_lane(1, 20)
    assert await partition.forget_lanes() == []
    world.database.foldable = True
    world.database.lane_errors = [TimeoutError()]
    assert await partition.forget_lanes() == [1]
    assert await partition.forget_lanes() == []


async def test_a_new_owner_knows_the_closed_lanes(autojump_clock: MockClock, world: World) -> None:
    world.database.lanes = {1: attrs.evolve(LANE, until_offset=20), 2: attrs.evolve(LANE, number=2)}
    partition = await world.open()
    assert [lane.number for lane in partition.lanes] == [1, 2]
    world.database.foldable = True
    assert await partition.forget_lanes() == [1]


async def test_a_lane_has_one_writer_and_no_lanes(autojump_clock: MockClock, world: World) -> None:
    partition = await world.open()
    assert partition.writers == world.shard.limiter.slots
    await partition.open_lane(LANE)
    lane = await world.store.open(OF_LANE)
    assert (lane.writers, lane.lanes, lane.last_lane) == (1, (), 0)
    await lane.apply(0, records(2))
    await world.store.fold([(CLAIM, 4), (OF_LANE, 2)])
    await partition.close_lane(1, 4)
    await world.store.fold([(OF_LANE, 4)])
    world.store.forget(OF_LANE)
    await world.store.fold([(CLAIM, 5), (OF_LANE, 3)])
    assert world.database.folded == [(CLAIM, 4), (OF_LANE, 2), (CLAIM, 5)]


async def test_a_lane_is_taken_over_though_the_keeper_raises_its_epoch(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    database, resolve = world.database, world.database.resolve
    database.lane_errors = [ConnectionResetError()]
    raised, opened = trio.Event(), list[str]()

    async def slow(lease: Lease, of: object) -> tuple[int, bool]:
        found = await resolve(lease, [])
        raised.set()
        await trio.sleep(5)
        return found

    database.resolve = slow  # type: ignore[assignment]

    async def take_over() -> None:
        await raised.wait()
        await world.store.open(OF_LANE)
        opened.append("lane")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_over)
        await partition.open_lane(LANE)
    assert opened == ["lane"]


async def test_what_is_given_up_is_marked_with_its_reason(
    autojump_clock: MockClock, world: World
) -> None:
    partition = await world.open()
    await partition.skip(0, records(2))
    why = DeadLetterReason("by hand", "Dropped")
    await partition.reject(0, record(7, "k"), why)
    assert world.dead_letters.kept == [(7, why)]
    assert world.database.marked == [0, 1, 7]
    assert world.database.reasons == ["GivenUp", "Dropped"]
