"""What the three ways share: servers, tables, and what happens to them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import attrs

from pipeline.local import Servers
from pipeline.local.ports import HOST
from tests.support.proxy import Proxy

TENANTS = 500
HOT = "app-hot"
HOT_MS = 25
"""How long an update of the hot tenant's parent row takes, with its lock held."""

SLOW_SECONDS = 0.05
"""What the slow disk adds to each message to Postgres, and to each answer."""

TABLES = f"""\
create table writes (n bigint not null, app text not null, queued_at timestamptz);
create table parents (app text primary key, total bigint not null default 0, slow_ms int not null);
insert into parents select 'app-' || n, 0, 0 from generate_series(0, {TENANTS - 1}) n;
insert into parents values ('{HOT}', 0, {HOT_MS});
create function be_slow() returns trigger language plpgsql as
    'begin perform pg_sleep(new.slow_ms / 1000.0); return new; end';
create trigger slow before update on parents
    for each row when (new.slow_ms > 0) execute function be_slow();
"""
WRITES = """\
select n, extract(epoch from queued_at)::float8,
    extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from writes"""
COUNTED = "select coalesce(sum(total), 0)::bigint from parents"


@attrs.frozen
class Write:
    """A row: the request's number, when the record was queued (if it was), when it was committed.

    Times are seconds since the epoch.
    """

    number: int
    queued: float | None
    visible: float


class World:
    """A database with its tables and a topic, and what may befall Postgres.

    Attributes:
        dsn: straight to the database.
        program_dsn: what the programs are given: through the proxy.
    """

    def __init__(self, servers: Servers, proxy: Proxy, name: str, directory: Path) -> None:
        self.servers = servers
        self.name = name
        self.directory = directory
        self.dsn = servers.create_database(name)
        parts = urlsplit(self.dsn)
        address = f"{parts.username}@{HOST}:{proxy.port}"
        self.program_dsn = urlunsplit(parts._replace(netloc=address))
        self._proxy = proxy

    @classmethod
    @contextmanager
    def open(cls, servers: Servers) -> Iterator[World]:
        """Make database, tables and topic; at the end drop the database."""
        name = f"world_{uuid4().hex[:8]}"
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        try:
            with Proxy(servers.postgres.port) as proxy:
                world = cls(servers, proxy, name, directory)
                servers.create_topic(name, 6)
                asyncio.run(_execute(world.dsn, TABLES))
                yield world
        finally:
            servers.drop_database(name)
            shutil.rmtree(directory)

    def writes(self) -> Sequence[Write]:
        """Return every row."""
        return [Write(*row) for row in asyncio.run(_fetch(self.dsn, WRITES))]

    def effects(self) -> int:
        """Return how often a write was added to a parent's total."""
        ((total,),) = asyncio.run(_fetch(self.dsn, COUNTED))
        return int(total)

    # What may befall it; each blocks for so many seconds

    def stop_postgres(self, seconds: float) -> None:
        """Stop the server, and start it again."""
        until = time.monotonic() + seconds
        self.servers.postgres.stop()
        time.sleep(max(0.0, until - time.monotonic()))
        self.servers.postgres.start()

    def lock(self, seconds: float) -> None:
        """Hold an exclusive lock on the table of parents, as a migration does."""
        statement = "begin; lock table parents in access exclusive mode"
        asyncio.run(_execute(self.dsn, statement, seconds))

    def slow_down(self, seconds: float) -> None:
        """Let everything to and from Postgres take longer."""
        self._proxy.delay(SLOW_SECONDS)
        time.sleep(seconds)
        self._proxy.delay(0)


async def _fetch(dsn: str, statement: str) -> Sequence[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str, seconds: float = 0.0) -> None:
    """Execute statements, and keep the session open for a while."""
    named = {"application_name": "the lock"}  # it is not among those that are counted
    connection = await asyncpg.connect(dsn, server_settings=named)
    try:
        await connection.execute(statement)
        await asyncio.sleep(seconds)
    finally:
        await connection.close()
