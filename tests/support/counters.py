"""A shard with a table that adds up, and the transactions that write it: on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
import trio

from pipeline.config.load import load
from pipeline.contracts.store import Claim
from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import Session, open_bridge
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.database import Transactions
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape, row_parser
from pipeline.stores import make_database
from tests.support.pgbouncer import NewPgBouncer
from tests.support.records import record
from tests.support.servers import DatabaseFactory

CLAIM = Claim("group", TopicPartition("sessions", 0), UUID(int=1))
SHAPE = Shape(("id", "n"))
SLOW = "slow"
"""The row whose insert takes `SLOW_SECONDS`."""
SLOW_SECONDS = 0.5

TABLE = f"""\
create table counters (id text primary key, n bigint not null check (n < 100));
create function dawdle() returns trigger language plpgsql as $$
begin
    if new.id = '{SLOW}' then perform pg_sleep({SLOW_SECONDS}); end if;
    return new;
end $$;
create trigger dawdle before insert on counters for each row execute function dawdle();
"""

SINK = """\
[sink]
table = "public.counters"
primary_key = ["id"]
tombstone = "ignore"
[sink.columns]
id = "id"
n = { from = "n", merge = "add" }
"""

CONFIG = """\
[pipeline]
name = "counters"
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["sessions"]
group_id = "group"
[records]
key = "id"
{records}
{sink}
[[shards]]
name = "db0"
dsn = "{dsn}"
"""


@attrs.frozen
class Counters:
    """The shard and what writes it."""

    dsn: str
    shard: Shard
    transactions: Transactions
    metrics: Metrics

    def rows(self) -> dict[str, int]:
        """The table: id → n."""
        lines = psql(self.dsn, "select id || ' ' || n from counters").split("\n")
        return {name: int(n) for name, n in (line.split() for line in lines if line)}


def make_counters(request: pytest.FixtureRequest, *, pooled: int | None = None) -> str:
    """Make the table in a database of its own; return its address.

    Args:
        pooled: the size of the pool of a PgBouncer between; None: there is none.
    """
    make: DatabaseFactory = request.getfixturevalue("database")
    dsn = make()
    psql(dsn, TABLE)
    if pooled is None:
        return dsn
    new_pgbouncer: NewPgBouncer = request.getfixturevalue("new_pgbouncer")
    servers: Servers = request.getfixturevalue("servers")
    return new_pgbouncer(servers.postgres, default_pool_size=pooled).dsn(dsn)


@asynccontextmanager
async def open_counters(
    dsn: str, directory: Path, *, records: str = "", sink: str = SINK
) -> AsyncIterator[Counters]:
    """Open the shard.

    Args:
        directory: for the configuration.
        records: more lines of its section ``[records]``.
        sink: its section ``[sink]``.
    """
    path = directory / "pipeline.toml"
    path.write_text(CONFIG.format(dsn=dsn, records=records, sink=sink))
    config = load(path)
    metrics = Metrics()
    async with open_bridge(), trio.open_nursery() as nursery:
        shard = Shard(config.shards[0], Session.of(config, config.shards[0]), metrics)
        nursery.start_soon(shard.serve)
        transactions = await make_database(config, shard, BatchSizers(100, bounded=False))
        yield Counters(dsn, shard, transactions, metrics)
        nursery.cancel_scope.cancel()


def counting(offset: int, key: str, n: Any) -> Record:
    """A record that adds to a row. Its document is a row, as the sink asks for."""
    made = record(offset, key, {"id": key, "n": n})
    assert made.value is not None
    return msgspec.structs.replace(made, document=row_parser(SHAPE)(made.value))
