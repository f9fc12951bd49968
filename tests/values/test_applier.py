"""The sink's applier on real servers: fenced or without anything to do, other types, simultaneous inserts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import attrs
import pytest
import trio

from pipeline.config.load import load
from pipeline.contracts.store import Claim, Fenced
from pipeline.local.postgres import psql
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Session, open_bridge
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.ledger.lease import Lease
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.database import Transactions
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path as RecordPath
from pipeline.records.record import Record, TopicPartition
from pipeline.stores import make_database
from tests.support.records import Raw
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

SOURCE = TopicPartition("t", 0)
CLAIM = Claim("group", SOURCE, UUID(int=1))
CONFIG = """\
[pipeline]
name = "values"
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["t"]
group_id = "group"
[records]
key = "id"
[sink]
table = "public.t"
mode = "{mode}"
primary_key = ["id"]
[sink.columns]
id = "id"
at = "at"
n = {{ from = "n"{merge} }}
[[shards]]
name = "db0"
dsn = "{dsn}"
"""
TABLE = "create table t (id int primary key, at timestamp, n int)"


@attrs.frozen
class Subject:
    """A database that records are applied to, the writer's lease, and the table as psql prints it."""

    database: Transactions
    lease: Lease
    dsn: str

    async def apply(self, offset: int, *values: str) -> None:
        await self.database.write(self.lease, self.records(offset, *values))

    def records(self, offset: int, *values: str) -> list[Record]:
        raws = [Raw(offset + n, b"k", value.encode()) for n, value in enumerate(values)]
        return json_decoder([RecordPath.parse("id")], self.database.shape)(SOURCE, raws)

    def sql(self, text: str) -> str:
        return psql(self.dsn, text).strip()

    def applied(self) -> str:
        return self.sql("select range_agg(r) from pipeline.applied, unnest(offsets) r")


@asynccontextmanager
async def subject(dsn: str, directory: Path, mode: str = "upsert") -> AsyncIterator[Subject]:
    path = directory / "pipeline.toml"
    path.write_text(
        CONFIG.format(dsn=dsn, mode=mode, merge="" if mode == "insert" else ', merge = "add"')
    )
    config = load(path)
    psql(dsn, TABLE)
    async with open_bridge(), trio.open_nursery() as nursery:
        shard = Shard(config.shards[0], Session.of(config, config.shards[0]), Metrics())
        nursery.start_soon(shard.serve)
        database = await make_database(config, shard, BatchSizers(100, bounded=False))
        epochs = (await database.take_over(CLAIM, 1)).epochs
        yield Subject(database, Lease(CLAIM, 0, epochs[0]), dsn)
        nursery.cancel_scope.cancel()


def test_nothing_to_update_is_applied_and_a_void_lease_is_fenced(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    async def main() -> None:
        async with subject(database(), tmp_path, "update") as made:
            await made.apply(0, '{"id":1,"n":1}')
            assert made.applied() == "{[0,1)}"
            await made.database.take_over(CLAIM, 1)
            with pytest.raises(Fenced):
                await made.apply(1, '{"id":1,"n":1}')
            assert made.applied() == "{[0,1)}"

    trio.run(main)


def test_a_type_that_changes_while_running_is_noticed_before_the_next_value(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    async def main() -> None:
        async with subject(database(), tmp_path) as made:
            await made.apply(0, '{"id":1,"at":"2024-01-01T12:00:00+02:00","n":1}')
            made.sql("alter table t alter at type timestamptz, alter n type bigint")
            await made.apply(1, '{"id":2,"at":"2024-01-01T12:00:00+02:00","n":1}')
            await made.apply(2, '{"id":3,"n":3000000000}')
            assert made.sql("select id, at, n from t order by id").splitlines() == [
                "1|2024-01-01 12:00:00+00|1",
                "2|2024-01-01 10:00:00+00|1",
                "3||3000000000",
            ]
            assert made.applied() == "{[0,3)}"

    trio.run(main)


def test_a_value_that_only_the_new_type_takes_is_no_dead_letter(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    """Postgres, or the sink itself, judges by the old type; the catalog is asked before it counts."""

    async def main() -> None:
        async with subject(database(), tmp_path) as made:
            made.sql("alter table t alter n type bigint")
            await made.apply(0, '{"id":1,"n":3000000000}')
            made.sql("alter table t alter n type numeric, alter at type jsonb using null")
            await made.apply(1, '{"id":1,"n":0.5,"at":{"a":1.10}}')
            made.sql("alter table t alter at type text using at::text")
            await made.apply(2, '{"id":2,"at":1.10}')
            found = made.sql("select id, at, n from t order by id").splitlines()
            assert found == ['1|{"a": 1.10}|3000000000.5', "2|1.10|"]

    trio.run(main)


def test_a_default_that_changes_while_running_is_the_one_that_an_absent_field_gets(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    async def main() -> None:
        async with subject(database(), tmp_path) as made:
            made.sql("alter table t alter at set default '2020-01-01'")
            await made.apply(0, '{"id":1}')
            made.sql("alter table t alter at set default '2021-01-01', alter n set default 5")
            await made.apply(1, '{"id":2}', '{"id":3,"n":1}')
            assert made.sql("select id, at, n from t order by id").splitlines() == [
                "1|2020-01-01 00:00:00|",
                "2|2021-01-01 00:00:00|5",
                "3|2021-01-01 00:00:00|1",
            ]
            assert made.applied() == "{[0,3)}"

    trio.run(main)


def test_a_column_that_must_be_filled_and_came_while_running_is_no_fault_of_a_record(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    async def main() -> None:
        async with subject(database(), tmp_path) as made:
            await made.apply(0, '{"id":1}')
            made.sql(
                "alter table t add z int not null default 0; alter table t alter z drop default"
            )
            with pytest.raises(asyncpg.UndefinedTableError, match="column z may not be null"):
                await made.apply(1, '{"id":2}')
            with pytest.raises(asyncpg.UndefinedTableError, match="column z may not be null"):
                await made.database.probe()
            made.sql("alter table t alter z set default 7")
            await made.database.probe()
            await made.apply(1, '{"id":2}')
            assert made.sql("select id, z from t order by id").splitlines() == ["1|0", "2|7"]

    trio.run(main)


def test_an_index_that_is_gone_fails_over_no_rows_as_it_does_over_some(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    """So it is known to be the schema's fault."""

    async def main() -> None:
        async with subject(database(), tmp_path, "insert") as made:
            made.sql("alter table t drop constraint t_pkey")
            with pytest.raises(asyncpg.InvalidColumnReferenceError):
                await made.apply(0, '{"id":1}')
            with pytest.raises(asyncpg.InvalidColumnReferenceError):
                await made.database.probe()

    trio.run(main)


def test_a_key_that_another_program_inserts_at_the_same_moment_is_met_again(
    database: DatabaseFactory, tmp_path: Path
) -> None:
    async def main() -> None:
        dsn = database()
        async with subject(dsn, tmp_path) as made, trio.open_nursery() as nursery:
            other = "begin; insert into t values (1, null, 5); select pg_sleep(1); commit"
            nursery.start_soon(trio.to_thread.run_sync, psql, dsn, other)
            asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
            with trio.fail_after(20):
                while made.sql(asleep) != "1":  # noqa: ASYNC110 (another program's session)
                    await trio.sleep(0.01)
            await made.apply(0, '{"id":1,"n":2}')
            assert made.sql("select n from t") == "7"

    trio.run(main)
