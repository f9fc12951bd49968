"""An idempotency key is applied once: by the sink and by a handler, on a real Postgres."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
import trio_asyncio

from pipeline.contracts.store import Claim, Fenced
from pipeline.local.postgres import psql
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger import schema, tidying
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.ledger.ledger import PostgresLedger
from pipeline.postgres.ledger.outcomes import Outcome, Place, State, ask
from pipeline.postgres.ledger.tidying import Chore, keys_chore, reasons_chore, step
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition
from tests.support.counters import (
    CLAIM,
    SINK,
    SLOW,
    Counters,
    counting,
    make_counters,
    open_counters,
)
from tests.support.records import Raw

pytestmark = pytest.mark.real

OTHER = attrs.evolve(CLAIM, source=TopicPartition("sessions", 1))
PATIENCE = 20.0

HANDLER = '[sink]\nhandler = "counting:apply"\n'

SOURCE = """\
calls = []

async def apply(tx, records):
    for record in records:
        calls.append(record.offset)
        tx.queue(
            "insert into counters as t values ($1, $2) "
            "on conflict (id) do update set n = t.n + excluded.n",
            record.document.get("id"), record.document.get("n"),
        )
"""


class Subject:
    """A shard that applies each key once."""

    def __init__(self, counters: Counters) -> None:
        self.transactions = counters.transactions
        self.shard = counters.shard
        self.rows = counters.rows
        self.run = partial(psql, counters.dsn)
        self._metrics = counters.metrics

    def keys(self) -> int:
        """How many keys are kept."""
        return int(self.run("select count(*) from pipeline.idempotency_keys"))

    async def own(self, claim: Claim = CLAIM) -> Lease:
        taken = await self.transactions.take_over(claim, 1)
        return Lease(claim, 0, taken.epochs[0])

    async def applied(self, claim: Claim = CLAIM) -> list[int]:
        known = (await self.transactions.take_over(claim, 1)).applied
        return sorted({*range(known.watermark or 0), *known.offsets_from(0)})

    @property
    def repeated(self) -> int:
        samples = [s for metric in self._metrics.repeated_keys.collect() for s in metric.samples]
        return int(sum(s.value for s in samples if s.name.endswith("_total")))


@asynccontextmanager
async def opened(dsn: str, sink: str, directory: Path) -> AsyncIterator[Subject]:
    (directory / "counting.py").write_text(SOURCE)
    dedupe = 'dedupe_for = "24h"'
    async with open_counters(dsn, directory, records=dedupe, sink=sink) as counters:
        yield Subject(counters)


Open = Callable[[], AbstractAsyncContextManager[Subject]]


WAYS = ["sink", "handler"]


@pytest.fixture(params=WAYS)
def open_subject(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    dsn = make_counters(request, pooled=4 if request.param == "pooled" else None)
    return partial(opened, dsn, HANDLER if request.param == "handler" else SINK, tmp_path)


def write(offset: int, row: str, key: str | None, n: int = 1, claim: Claim = CLAIM) -> Record:
    """A record that adds to a row, with its idempotency key."""
    made = counting(offset, row, n)
    assert isinstance(made.raw, Raw)
    made.raw.headers = [] if key is None else [("idempotency-key", key.encode())]
    return msgspec.structs.replace(made, source=claim.source)


async def test_two_records_of_one_key_in_a_batch_are_applied_once(open_subject: Open) -> None:
    async with open_subject() as subject:
        lease = await subject.own()
        batch = [write(1, "b", "k"), write(0, "a", "k"), write(2, "c", None), write(3, "c", None)]
        await subject.transactions.write(lease, batch)
        assert subject.rows() == {"a": 1, "c": 2}, "the lower offset is the first"
        assert await subject.applied() == [0, 1, 2, 3]
        assert (subject.keys(), subject.repeated) == (1, 1)


async def test_a_key_that_another_partition_applied_is_not_applied_again(
    open_subject: Open,
) -> None:
    async with open_subject() as subject:
        first, second = await subject.own(), await subject.own(OTHER)
        await subject.transactions.write(first, [write(7, "a", "k")])
        mixed = [write(7, "b", "k", claim=OTHER), write(8, "c", "new", claim=OTHER)]
        await subject.transactions.write(second, mixed)
        await subject.transactions.write(second, [write(9, "d", "k", claim=OTHER)])
        assert subject.rows() == {"a": 1, "c": 1}
        assert await subject.applied(OTHER) == [7, 8, 9]
        assert (subject.keys(), subject.repeated) == (2, 2)


@pytest.mark.parametrize("open_subject", [*WAYS, "pooled"], indirect=True)
async def test_of_two_transactions_at_once_one_applies_the_key(open_subject: Open) -> None:
    async with open_subject() as subject:
        first, second = await subject.own(), await subject.own(OTHER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                subject.transactions.write, first, [write(0, SLOW, "k"), write(1, "a", "l")]
            )
            nursery.start_soon(
                subject.transactions.write,
                second,
                [write(0, "b", "k", claim=OTHER), write(1, "c", "m", claim=OTHER)],
            )
        rows = subject.rows()
        assert (SLOW in rows) != ("b" in rows)
        assert rows.keys() >= {"a", "c"}
        assert await subject.applied() == await subject.applied(OTHER) == [0, 1]
        assert (subject.keys(), subject.repeated) == (3, 1)


async def test_what_is_rolled_back_leaves_its_key_to_the_next(open_subject: Open) -> None:
    async with open_subject() as subject:
        lease = await subject.own()
        bad = write(0, "a", "k", n=100)
        with pytest.raises(Exception, match=r"violates check constraint"):
            await subject.transactions.write(lease, [bad])
        await subject.transactions.mark(lease, [bad])
        assert subject.keys() == 0
        await subject.transactions.write(lease, [write(1, "b", "k")])
        assert subject.rows() == {"b": 1}
        assert await subject.applied() == [0, 1]


async def test_a_record_is_no_repetition_of_itself(open_subject: Open) -> None:
    """After a rewind the ledger knows nothing of it, and its key is there all the same."""
    async with open_subject() as subject:
        lease = await subject.own()
        records = [write(0, "a", "k"), write(1, "b", "l"), write(2, "c", "k")]
        await subject.transactions.write(lease, records)
        assert subject.rows() == {"a": 1, "b": 1}
        subject.run("delete from pipeline.applied; delete from counters")
        await subject.transactions.write(lease, records)
        assert subject.rows() == {"a": 1, "b": 1}
        subject.run("delete from pipeline.applied; delete from counters")
        await subject.transactions.write(lease, records[2:])
        await subject.transactions.write(lease, records[:2])
        assert subject.rows() == {"a": 1, "b": 1}
        assert subject.keys() == 2


async def test_a_fenced_write_uses_up_no_key(open_subject: Open) -> None:
    async with open_subject() as subject:
        old, new = await subject.own(), await subject.own()
        with pytest.raises(Fenced):
            await subject.transactions.write(old, [write(0, "a", "k")])
        assert subject.keys() == 0
        await subject.transactions.write(new, [write(0, "a", "k")])
        with pytest.raises(Fenced):
            await subject.transactions.write(old, [write(1, "b", "k")])
        assert subject.rows() == {"a": 1}


async def test_a_repeated_write_that_is_in_doubt_is_resolved_as_committed(
    open_subject: Open,
) -> None:
    async with open_subject() as subject:
        lease = await subject.own()
        await subject.transactions.write(lease, [write(0, "a", "k")])
        again = [write(1, "a", "k"), write(2, "a", "l")]
        await subject.transactions.write(lease, again)
        _, committed = await subject.transactions.resolve(lease, again)
        assert committed
        assert subject.rows() == {"a": 2}


async def test_many_transactions_that_share_keys_end_and_apply_each_once(
    open_subject: Open,
) -> None:
    """Keys are claimed in their order and before rows are locked, so nobody waits in a circle."""
    async with open_subject() as subject:
        claims = [attrs.evolve(CLAIM, source=TopicPartition("sessions", n)) for n in range(4)]
        leases = [await subject.own(claim) for claim in claims]

        async def send(lease: Lease, turn: int) -> None:
            numbers = range(20) if turn % 2 else range(19, -1, -1)
            batch = [write(n, f"row{n % 5}", f"k{n}", claim=lease.claim) for n in numbers]
            await subject.transactions.write(lease, batch)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for turn, lease in enumerate(leases):
                    nursery.start_soon(send, lease, turn)
        assert subject.rows() == {f"row{n}": 4 for n in range(5)}
        assert (subject.keys(), subject.repeated) == (20, 60)


@pytest.mark.parametrize("open_subject", ["handler"], indirect=True)
async def test_a_handler_is_called_for_no_record_whose_key_is_known(open_subject: Open) -> None:
    async with open_subject() as subject:
        lease = await subject.own()
        await subject.transactions.write(lease, [write(0, "a", "k")])
        await subject.transactions.write(lease, [write(1, "a", "k"), write(2, "b", None)])
        await subject.transactions.write(lease, [write(3, "b", "k")])
        assert sys.modules["counting"].calls[-2:] == [0, 2]
        assert subject.rows() == {"a": 1, "b": 1}


@pytest.mark.parametrize("open_subject", ["sink"], indirect=True)
async def test_keys_past_their_time_go_in_steps_that_wait_for_nobody(
    open_subject: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "STEP", 4)
    async with open_subject() as subject:
        lease = await subject.own()
        await subject.transactions.write(lease, [write(n, f"r{n}", f"k{n}") for n in range(9)])
        subject.run(
            "update pipeline.idempotency_keys set applied_at = now() - interval '25 hours' "
            "where record_offset < 7; insert into pipeline.idempotency_keys "
            "select 'another/sessions', key, topic_id, 0, 0, applied_at "
            "from pipeline.idempotency_keys where record_offset = 0"
        )

        async def tidy(lag: float = 0.0) -> int:
            chore = keys_chore(86_400.0)
            return await subject.shard.run(
                partial(step, chore=chore, streams=["group/sessions"], lag=lag)
            )

        assert await tidy(lag=7_200.0) == 0, "what still waits may ask for them"

        async def busy(connection: Connection) -> None:
            async with connection.transaction():
                await connection.fetch(
                    "select from pipeline.idempotency_keys where record_offset = 6 for update"
                )
                with trio.fail_after(PATIENCE):
                    found = [await trio_asyncio.trio_as_aio(tidy)() for _ in range(3)]
                assert found == [4, 2, 0], "the locked one is passed over"

        await subject.shard.run(busy)
        assert [await tidy(), await tidy()] == [1, 0]
        assert subject.keys() == 3, "two are young, one is another pipeline's"
        await subject.transactions.write(lease, [write(9, "r0", "k0"), write(10, "r8", "k8")])
        assert subject.rows()["r0"] == 2, "k0 was forgotten"
        assert subject.rows()["r8"] == 1


@pytest.mark.parametrize("open_subject", ["sink"], indirect=True)
async def test_reasons_past_their_time_go_and_no_receipt_says_applied_instead(
    open_subject: Open,
) -> None:
    async with open_subject() as subject:
        subject.run(schema.EXTRAS["refused"])
        ledger = PostgresLedger(subject.shard, "me", reasons=True)
        lease = await subject.own()
        await subject.transactions.write(lease, [write(n, "a", None) for n in (0, 2, 4)])
        for offset in (1, 3):
            why = DeadLetterReason("it does not fit", "DataError")
            await ledger.mark(lease, [write(offset, "a", None)], why)

        async def told() -> list[str]:
            places = [Place(CLAIM.topic_id, 0, offset) for offset in range(6)]
            found = await subject.shard.run(partial(ask, streams=[CLAIM.stream], places=places))
            waits = Outcome(State.WAITING)
            return [found.get(place, waits).state.value for place in places]

        async def tidy(chore: Chore) -> int:
            return await subject.shard.run(
                partial(step, chore=chore, streams=[CLAIM.stream], lag=0.0)
            )

        known = ["applied", "refused", "applied", "refused", "applied", "waiting"]
        assert await tidy(reasons_chore()) == 0
        assert await told() == known
        subject.run(
            "update pipeline.refused set refused_at = now() - interval '31 days' "
            "where record_offset = 1"
        )
        assert [await tidy(reasons_chore()), await tidy(reasons_chore())] == [1, 0]
        assert await told() == ["unknown", "unknown", *known[2:]]
        subject.run("update pipeline.refused set refused_at = now() - interval '31 days'")
        assert await tidy(reasons_chore()) == 1
        assert await told() == [*["unknown"] * 4, *known[4:]]
        assert await tidy(reasons_chore()) == 0, "the mark itself stays"
