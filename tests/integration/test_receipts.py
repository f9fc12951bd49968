"""Receipts on real servers: what became of a record is what the ledger says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest
import trio
import trio.testing

from pipeline.config.model import ShardConfig
from pipeline.contracts.lane import Lane, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.store import Claim
from pipeline.ingest.outcomes import Outcomes
from pipeline.ingest.poller import Poller
from pipeline.ingest.receipts import decode
from pipeline.local import Servers
from pipeline.local.ports import free_port
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Connection, Session, open_bridge
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.ledger.ledger import PostgresLedger
from pipeline.postgres.ledger.outcomes import Outcome, Place, State, ask
from pipeline.postgres.ledger.reading import read_entry, reset_entry
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import TopicPartition
from tests.support import accounts
from tests.support.ingest_process import Endpoint
from tests.support.instance import PATIENCE, Instance
from tests.support.pipelines import Job, JobFactory
from tests.support.records import record
from tests.support.replies import Reply
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

TOPIC_ID = UUID(int=5)
CLAIM = Claim("group", TopicPartition("sessions", 0), TOPIC_ID)
WAIT = {"prefer": "wait=20"}
ROLE = "no_reader"


class Desk:
    """A job with an endpoint in front that tells receipts."""

    def __init__(self, job: Job, servers: Servers, dsn: str, dead: str, directory: Path) -> None:
        self.job = job
        self._dsn = dsn
        job.write_config(
            {"db0": (dsn, "")}, records='key = "id"', errors=f'dead_letter_topic = "{dead}"'
        )
        self.endpoint = Endpoint(servers, job.topic, directory)
        listen = f'listen = "127.0.0.1:{self.endpoint.port}"'
        text = f"{job.config.read_text()}\n[ingest]\n{listen}\nreceipts = true\n"
        job.config.write_text(text)
        self.endpoint.config.write_text(text)

    def consume(self) -> None:
        """Start a consumer; return when its ledger is there."""
        self.job.start()
        made = "select to_regclass('pipeline.refused') is not null"
        self.job.wait_until(lambda: psql(self._dsn, made).strip() == "t", "the table of reasons")

    def post(self, record: Mapping[str, Any], **headers: str) -> Reply:
        return self.endpoint.post(record, headers)

    def get(self, receipt: str, **headers: str) -> Reply:
        return self.endpoint.request("GET", f"/v1/receipts/{receipt}", headers=headers)


@pytest.fixture
def desk(
    new_job: JobFactory,
    servers: Servers,
    account_dsn: str,
    topic: TopicFactory,
    tmp_path: Path,
) -> Iterator[Desk]:
    psql(account_dsn, "alter table accounts add constraint not_bad check (not marks ? 'bad')")
    made = Desk(new_job(3), servers, account_dsn, topic(1), tmp_path)
    yield made
    made.endpoint.close()


def account(key: int, n: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(accounts.change(key, n)[1] or b"")
    return found


def test_who_waits_reads_their_own_write(desk: Desk, account_dsn: str) -> None:
    desk.endpoint.start()
    desk.consume()
    for key in range(20):
        reply = desk.post(account(key), **WAIT)
        assert (reply.status, reply.json["state"]) == (200, "applied"), reply
        assert psql(account_dsn, f"select count(*) from accounts where id = {key}").strip() == "1"
        again = desk.get(reply.json["receipt"])
        assert (again.status, again.json) == (200, reply.json)


def test_a_receipt_waits_as_long_as_nobody_consumes(desk: Desk) -> None:
    desk.endpoint.start()
    first = desk.post(account(1))
    assert (first.status, set(first.json)) == (202, {"receipt"})
    told = desk.post(account(1, 2), prefer="wait=1")
    assert (told.status, told.json["state"]) == (202, "unknown"), "there is no ledger yet"
    assert "no ledger" in told.json["why"]
    desk.job.start()
    applied = wait_until(
        lambda: desk.get(first.json["receipt"], **WAIT).json["state"] == "applied", PATIENCE
    )
    assert applied
    waiting = desk.post(account(1, 3), **WAIT).json["receipt"]
    desk.job.instances[0].kill()
    later = desk.post(account(1, 4), prefer="wait=1")
    assert (later.status, later.json["state"]) == (202, "waiting")
    assert desk.get(waiting).json["state"] == "applied"
    desk.job.start()
    assert desk.get(later.json["receipt"], **WAIT).status in (200, 202)


def test_a_dead_letter_is_told_with_its_reason(desk: Desk) -> None:
    desk.endpoint.start()
    desk.consume()
    assert desk.post(account(1), **WAIT).status == 200
    reply = desk.post({**account(1, 2), "marks": {"bad": 1}}, **WAIT)
    assert reply.status == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert "not_bad" in reply.json["detail"]
    again = desk.get(reply.json["receipt"])
    assert (again.status, again.json) == (422, reply.json)
    batch = [account(2), {**account(2, 2), "amount": "many"}, account(3)]
    mixed = desk.endpoint.post(batch, WAIT)
    assert mixed.status == 207
    assert [each["state"] for each in mixed.json["results"]] == ["applied", "refused", "applied"]


def test_a_shard_that_is_down_ends_the_wait_and_takes_records_all_the_same(desk: Desk) -> None:
    text = desk.endpoint.config.read_text()
    down = f'dsn = "postgresql://nobody@127.0.0.1:{free_port()}/none"'
    lines = [down if line.startswith("dsn = ") else line for line in text.splitlines()]
    desk.endpoint.config.write_text("\n".join(lines))
    instance = desk.endpoint.start()
    reply = desk.post(account(1), **WAIT)
    assert (reply.status, reply.json["state"]) == (202, "unknown")
    assert "shard db0 can't be asked" in reply.json["why"]
    assert instance.output.count("receipts are not told") == 1


def test_a_ledger_that_may_not_be_read_is_a_mistake_of_the_configuration(
    desk: Desk, account_dsn: str, tmp_path: Path
) -> None:
    desk.consume()
    psql(account_dsn, f"create role {ROLE} login")
    try:
        text = desk.endpoint.config.read_text()
        user = account_dsn.split("//")[1].split("@")[0]
        desk.endpoint.config.write_text(text.replace(f"//{user}@", f"//{ROLE}@"))
        instance = Instance(desk.endpoint.config, tmp_path / "refused.log", "ingest")
        assert instance.wait() == 2, instance.output
        assert "ingest.receipts: the ledger of shard db0 may not be read" in instance.output
        assert "select on pipeline.applied, pipeline.lanes, pipeline.refused" in instance.output
    finally:
        psql(account_dsn, f"drop owned by {ROLE}; drop role {ROLE}")


def test_a_stop_ends_the_waits_and_loses_nothing(desk: Desk) -> None:
    instance = desk.endpoint.start()
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(desk.post(account(1), **WAIT)))
    thread.start()
    assert wait_until(lambda: any(desk.job.log().values()), PATIENCE)
    assert instance.stop() == 0
    thread.join(PATIENCE)
    (reply,) = replies
    assert (reply.status, reply.json["state"]) == (202, "unknown")
    place = decode(reply.json["receipt"])
    assert desk.job.log()[place.partition][place.offset]


# The ledger itself


async def with_ledger(dsn: str, work: Any) -> None:
    """Run work with a ledger that keeps reasons, and its shard."""
    config = ShardConfig("db0", dsn)
    async with open_bridge(), trio.open_nursery() as nursery:
        shard = Shard(config, Session("receipts"), Metrics())
        nursery.start_soon(shard.serve)
        ledger = PostgresLedger(shard, "owner", reasons=True)
        await ledger.prepare()
        await work(shard, ledger)
        nursery.cancel_scope.cancel()


def asked(*offsets: int) -> list[Place]:
    return [Place(TOPIC_ID, 0, offset) for offset in offsets]


async def test_a_thousand_waiters_cost_one_query_per_interval_on_a_real_ledger(
    database: DatabaseFactory,
) -> None:
    counted: list[int] = []

    async def work(shard: Shard, ledger: PostgresLedger) -> None:
        (epoch,) = (await ledger.take_over(CLAIM, 1)).epochs
        lease = Lease(CLAIM, 0, epoch)

        async def count(places: Sequence[Place]) -> Mapping[Place, Outcome]:
            counted.append(len(places))
            return await shard.run(partial(ask, streams=[CLAIM.stream], places=places))

        poller = Poller("db0", count, str)
        outcomes = Outcomes(lambda _: poller)
        states: list[State] = []

        async def wait(offset: int) -> None:
            found = await outcomes.wait(asked(offset), PATIENCE)
            states.append(found[asked(offset)[0]].state)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            async with trio.open_nursery() as waiters:
                for offset in range(1000):
                    waiters.start_soon(wait, offset)
                with trio.fail_after(PATIENCE):
                    while len(counted) < 5:
                        await trio.testing.wait_all_tasks_blocked()
                before = len(counted)
                await ledger.mark(lease, [record(offset) for offset in range(1000)])
            nursery.cancel_scope.cancel()
        assert states == [State.APPLIED] * 1000
        assert set(counted[1:]) == {1000}, "each query is for all who have come by then"
        assert len(counted) <= before + 20

    await with_ledger(database(), work)


async def test_the_ledger_tells_what_is_applied_refused_and_waiting(
    database: DatabaseFactory,
) -> None:
    why = DeadLetterReason("no", "CheckViolationError", "23514")

    async def work(shard: Shard, ledger: PostgresLedger) -> None:
        (epoch,) = (await ledger.take_over(CLAIM, 1)).epochs
        lease = Lease(CLAIM, 0, epoch)
        await ledger.mark(lease, [record(0), record(2)])
        await ledger.mark(lease, [record(1)], why)
        await ledger.mark(lease, [record(1)], why)

        async def states() -> dict[int, Outcome]:
            found = await shard.run(partial(ask, streams=[CLAIM.stream], places=asked(0, 1, 2, 3)))
            return {place.offset: outcome for place, outcome in found.items()}

        applied, refused = Outcome(State.APPLIED), Outcome(State.REFUSED, "no")
        assert await states() == {0: applied, 1: refused, 2: applied}
        await ledger.fold([(lease, 3)])
        assert await states() == {0: applied, 1: refused, 2: applied}
        other = await shard.run(partial(ask, streams=["other/sessions"], places=asked(0, 1)))
        assert other == {}
        elsewhere = [Place(UUID(int=6), 0, 0), Place(TOPIC_ID, 1, 0)]
        assert not await shard.run(partial(ask, streams=[CLAIM.stream], places=elsewhere))

        async def rewind(connection: Connection) -> None:
            entry = await read_entry(connection, CLAIM)
            async with connection.transaction():
                await reset_entry(connection, CLAIM, entry.epochs, ((0, 1),), "rewind")

        await shard.run(rewind)
        assert await states() == {0: applied}

    await with_ledger(database(), work)


async def test_what_may_wait_in_a_lane_is_never_told_as_applied(database: DatabaseFactory) -> None:
    """To the watermark it is done either way."""
    lane = Lane(1, Rule("key", "k"), LaneReason.OVERFLOW, 2, left_out=((3, 4),))
    claim = attrs.evolve(CLAIM, lane=1)

    async def work(shard: Shard, ledger: PostgresLedger) -> None:
        epochs = (await ledger.take_over(CLAIM, 2)).epochs
        first, keeper = (Lease(CLAIM, writer, epoch) for writer, epoch in enumerate(epochs))
        await ledger.open_lane(keeper, lane)
        (epoch,) = (await ledger.take_over(claim, 1, keeper)).epochs
        own = Lease(claim, 0, epoch)

        async def told() -> str:
            places = asked(1, 2, 3, 4, 5)
            found = await shard.run(partial(ask, streams=[CLAIM.stream], places=places))
            return " ".join(found[place].state.value if place in found else "-" for place in places)

        await ledger.mark(first, [record(offset) for offset in (1, 3, 5)])
        assert await told() == "applied waiting applied waiting applied"
        await ledger.fold([(first, 5)])
        assert await told() == "applied waiting applied waiting applied", "5 is above the watermark"
        await ledger.fold([(first, 6)])
        assert await told() == "applied waiting applied waiting waiting"

        async def rewind(connection: Connection) -> None:
            entry = await read_entry(connection, CLAIM)
            async with connection.transaction():
                await reset_entry(connection, CLAIM, entry.epochs, ((0, 6),), "rewind")

        await shard.run(rewind)
        assert await told() == "applied waiting applied waiting waiting"
        epochs = (await ledger.take_over(CLAIM, 2)).epochs
        first, keeper = (Lease(CLAIM, writer, epoch) for writer, epoch in enumerate(epochs))
        await ledger.mark(own, [record(2)])
        await ledger.mark(own, [record(4)], DeadLetterReason("no", "CheckViolationError"))
        assert await told() == "applied applied applied refused waiting"
        await ledger.close_lane(keeper, 1, 6)
        assert await told() == "applied applied applied refused applied"
        assert await ledger.forget_lanes(keeper) == []
        assert await told() == "applied applied applied refused applied"

    await with_ledger(database(), work)
