"""The rows of lanes in a real Postgres: who may change them, when they go, and who is refused by them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

import asyncpg
import attrs
import pytest

from pipeline.contracts.lane import Lane, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.store import Claim, Fenced
from pipeline.postgres.ledger import lanes
from pipeline.postgres.ledger.applied import fold
from pipeline.postgres.ledger.lane_moves import LaneMove, move_lanes
from pipeline.postgres.ledger.lease import MARK, SERVER, Lease
from pipeline.postgres.ledger.multirange import multirange
from pipeline.postgres.ledger.ownership import resolve, take_over, voided
from pipeline.postgres.ledger.reading import read_lanes
from pipeline.postgres.ledger.schema import MIGRATIONS, migrate
from pipeline.records.record import TopicPartition
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

CLAIM = Claim("group", TopicPartition("topic", 0), uuid4())
LANE = Lane(
    number=1, rule=Rule("key", 12), reason=LaneReason.OVERFLOW, from_offset=10,
    left_out=((12, 14), (20, 21)), opened_at=1764000000.25,
)  # fmt: skip
WRITERS = 2

# The statements with which version 2 takes a partition over.
OLD_RAISE = f"""\
with owned as (select writer from pipeline.ownership where stream = $1 and topic_id = $2
    and partition = $3 order by writer for update)
update pipeline.ownership o set epoch = o.epoch + 1, owner = $4, acquired_at = now(),
    server = {SERVER}
from owned where o.stream = $1 and topic_id = $2 and partition = $3 and o.writer = owned.writer"""
OLD_ADD = """\
insert into pipeline.ownership (stream, topic_id, partition, writer, epoch, owner)
select $1, $2, $3, writer, 0, $4 from generate_series(0, $5::int - 1) writer
on conflict (stream, topic_id, partition, writer) do nothing"""


def on(database: DatabaseFactory, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    """Run a test in a database of its own, whose ledger the test makes."""

    async def run() -> None:
        connection = await asyncpg.connect(database())
        try:
            await work(connection)
        finally:
            await connection.close()

    asyncio.run(run())


async def own(connection: asyncpg.Connection, claim: Claim = CLAIM) -> list[Lease]:
    taken = await take_over(connection, claim, "owner", WRITERS)
    return [Lease(claim, writer, epoch) for writer, epoch in enumerate(taken.epochs)]


async def own_lane(connection: asyncpg.Connection, keeper: Lease, number: int = 1) -> Lease:
    claim = attrs.evolve(CLAIM, lane=number)
    return Lease(claim, 0, (await take_over(connection, claim, "owner", 1, keeper)).epochs[0])


async def mark(connection: asyncpg.Connection, lease: Lease, offsets: Sequence[int]) -> bool:
    guard = (*lease.parameters(), multirange(offsets))
    return bool(await connection.fetchval(MARK, *guard))


async def old_take_over(connection: asyncpg.Connection) -> None:
    key = (CLAIM.stream, CLAIM.topic_id, CLAIM.source.partition)
    async with connection.transaction():
        await connection.execute(OLD_ADD, *key, "old", WRITERS)
        await connection.execute(OLD_RAISE, *key, "old")


def test_a_new_owner_reads_the_lanes_as_they_were_written(database: DatabaseFactory) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection)
        _, keeper = await own(connection)
        odd = attrs.evolve(LANE, number=3, rule=Rule("tenant", "a\0\udcffb"), left_out=(), hold="h")
        for lane in (LANE, odd, LANE):
            await lanes.open_lane(connection, keeper, lane)
        await lanes.close_lane(connection, keeper, 3, 40)
        taken = await take_over(connection, CLAIM, "new", WRITERS)
        assert list(taken.lanes) == [LANE, attrs.evolve(odd, until_offset=40)]
        assert taken.last_lane == 3

    on(database, work)


def test_a_former_owner_neither_opens_nor_closes_nor_forgets_nor_takes_a_lane(
    database: DatabaseFactory,
) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection)
        _, zombie = await own(connection)
        await lanes.open_lane(connection, zombie, LANE)
        writer = await own_lane(connection, zombie)
        await own(connection)
        for late in (
            lanes.open_lane(connection, zombie, attrs.evolve(LANE, number=2)),
            lanes.close_lane(connection, zombie, 1, 50),
            lanes.forget_lanes(connection, zombie),
            own_lane(connection, zombie),
        ):
            with pytest.raises(Fenced):
                await late
        taken = await take_over(connection, CLAIM, "new", WRITERS)
        assert list(taken.lanes) == [LANE]
        assert taken.last_lane == 1
        # What the zombie's lane still has under way is fenced when the lane is taken over.
        assert await mark(connection, writer, [10])
        new = await own_lane(connection, Lease(CLAIM, 1, taken.epochs[1]))
        assert not await mark(connection, writer, [11])
        assert await mark(connection, new, [11])

    on(database, work)


def test_a_lane_is_forgotten_once_the_partition_has_folded_past_it(
    database: DatabaseFactory,
) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection)
        first, keeper = await own(connection)
        other = attrs.evolve(LANE, number=2)
        for lane in (LANE, other):
            await lanes.open_lane(connection, keeper, lane)
        writer = await own_lane(connection, keeper)
        assert await mark(connection, writer, [10, 11])
        await lanes.close_lane(connection, keeper, 1, 30)
        await fold(connection, [(first, 29), (writer, 12)])
        assert await lanes.forget_lanes(connection, keeper) == [1]
        assert await mark(connection, first, range(29, 35))
        assert await lanes.forget_lanes(connection, keeper) == []
        streams = "select distinct stream from pipeline."
        for table in ("applied", "ownership"):
            (row,) = await connection.fetch(streams + table)
            assert row["stream"] == CLAIM.stream
        assert await voided(connection, [first, keeper]) == []
        taken = await take_over(connection, CLAIM, "new", WRITERS)
        assert list(taken.lanes) == [other]
        assert taken.last_lane == 2

    on(database, work)


def test_the_number_of_a_forgotten_lane_is_remembered(database: DatabaseFactory) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection)
        first, keeper = await own(connection)
        await lanes.open_lane(connection, keeper, attrs.evolve(LANE, number=7))
        await lanes.close_lane(connection, keeper, 7, 11)
        await fold(connection, [(first, 11)])
        assert await lanes.forget_lanes(connection, keeper) == []
        taken = await take_over(connection, CLAIM, "new", WRITERS + 1)
        assert (list(taken.lanes), taken.last_lane) == ([], 7)

    on(database, work)


def test_what_was_asked_before_an_epoch_was_raised_comes_too_late(
    database: DatabaseFactory,
) -> None:
    """As after a lost answer: the keeper raises its own epoch, and its writers go on."""

    async def work(connection: asyncpg.Connection) -> None:
        await migrate(connection)
        first, keeper = await own(connection)
        epoch, _ = await resolve(connection, keeper, [])
        with pytest.raises(Fenced):
            await lanes.open_lane(connection, keeper, LANE)
        await lanes.open_lane(connection, Lease(CLAIM, keeper.writer, epoch), LANE)
        assert await mark(connection, first, [0])

    on(database, work)


def test_a_version_that_knows_no_lanes_is_refused_while_there_are_some(
    database: DatabaseFactory,
) -> None:
    """The migration comes while an instance of version 2 owns the partition, with data."""

    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(MIGRATIONS[1] + MIGRATIONS[2])
        await old_take_over(connection)
        old = Lease(CLAIM, 0, 1)
        assert await mark(connection, old, range(5))
        await migrate(connection)
        assert await mark(connection, old, [5]), "it goes on beside the new version"
        await old_take_over(connection)
        assert await mark(connection, attrs.evolve(old, epoch=2), [6])

        first, keeper = await own(connection)
        assert not await mark(connection, attrs.evolve(old, epoch=2), [7])
        taken = await take_over(connection, CLAIM, "new", WRITERS)
        assert taken.applied.watermark == 7
        first, keeper = (Lease(CLAIM, n, epoch) for n, epoch in enumerate(taken.epochs))
        await lanes.open_lane(connection, keeper, LANE)
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="has lanes"):
            await old_take_over(connection)
        assert await mark(connection, first, [7]), "nothing of the old one's attempt is left"

        await lanes.close_lane(connection, keeper, 1, 10)
        await fold(connection, [(first, 10)])
        await lanes.forget_lanes(connection, keeper)
        await old_take_over(connection)
        assert not await mark(connection, first, [8])

    on(database, work)


async def rewound(
    connection: asyncpg.Connection, move: LaneMove, to: int
) -> list[tuple[int | None, list[tuple[int, int]]]]:
    """What two lanes are after a rewind, one open and one closed: where each ends, what it applied."""
    await migrate(connection)
    first, keeper = await own(connection)
    for number in (1, 2):
        await lanes.open_lane(connection, keeper, attrs.evolve(LANE, number=number))
        writer = await own_lane(connection, keeper, number)
        await mark(connection, writer, range(10, 15))
        await mark(connection, writer, [22])
    await lanes.close_lane(connection, keeper, 2, 30)
    async with connection.transaction():
        await move_lanes(connection, CLAIM, move, to, "rewind")
    assert not await mark(connection, writer, [23]), "the former owner is fenced"
    assert await mark(connection, first, [40]), "the partition's own rows are the caller's"
    key = (CLAIM.stream, CLAIM.topic_id, CLAIM.source.partition)
    found = (await read_lanes(connection, [CLAIM.stream, "other"]))[key]
    return [(entry.lane.until_offset, list(entry.applied)) for entry in found]


def test_a_rewind_takes_the_lanes_along(database: DatabaseFactory) -> None:
    async def back(connection: asyncpg.Connection) -> None:
        found = await rewound(connection, LaneMove.BACK, 12)
        assert found == [(None, [(10, 12)]), (12, [(10, 12)])]

    async def far_back(connection: asyncpg.Connection) -> None:
        assert await rewound(connection, LaneMove.BACK, 5) == [(None, []), (10, [])]

    async def skip(connection: asyncpg.Connection) -> None:
        found = await rewound(connection, LaneMove.SKIP, 20)
        assert found == [(None, [(0, 20), (22, 23)]), (30, [(0, 20), (22, 23)])]

    async def stay(connection: asyncpg.Connection) -> None:
        found = await rewound(connection, LaneMove.STAY, 20)
        assert found == [(None, [(10, 15), (22, 23)]), (30, [(10, 15), (22, 23)])]

    for work in (back, far_back, skip, stay):
        on(database, work)
