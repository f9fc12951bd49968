"""The facts about Postgres, for each shard: what it is, what it allows, what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import attrs

from pipeline.check.privileges import missing_privileges
from pipeline.config.model import Config, ShardConfig
from pipeline.contracts.store import AppliedOffsets
from pipeline.postgres.connections.address import server_of
from pipeline.postgres.connections.bridge import Connection, Connections, Session, cross
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.ledger.reading import LaneEntry, read_lanes, read_streams
from pipeline.postgres.ledger.schema import EXTRA_PRIVILEGES, PRIVILEGES, version_of
from pipeline.postgres.sink.catalog import Table, read_table, table_names
from pipeline.postgres.sink.sink import Sink
from pipeline.postgres.sink.statements import Statements
from pipeline.postgres.sink.validate import mistakes_of

CONNECT_SECONDS = 4.0
STATEMENT_SECONDS = 4.0

_SERVER = """\
select current_setting('server_version_num')::int as version,
       room.connections, room.in_use,
       pg_is_in_recovery() as standby,
       current_setting('transaction_read_only')::boolean as read_only,
       current_setting('search_path') as search_path, current_user::text as role,
       current_database()::text as database,
       has_database_privilege(current_database(), 'create') as may_create
from (select connections, used - (select count(*)::int from pg_stat_activity a
          where a.application_name = $1 and a.datname = coalesce(room.datname, a.datname)
                and a.usename = coalesce(room.rolname, a.usename)) - 1 as in_use
      from (select current_setting('max_connections')::int
                       - current_setting('superuser_reserved_connections')::int
                       - coalesce(current_setting('reserved_connections', true), '0')::int,
                   (select coalesce(sum(numbackends), 0)::int from pg_stat_database),
                   null::name, null::name
            union all
            select datconnlimit, (select count(*)::int from pg_stat_activity a
                where a.datname = d.datname), d.datname, null
            from pg_database d where datname = current_database() and datconnlimit >= 0
            union all
            select rolconnlimit, (select count(*)::int from pg_stat_activity a
                where a.usename = r.rolname), null, r.rolname
            from pg_roles r where rolname = session_user and rolconnlimit >= 0
      ) room(connections, used, datname, rolname)
      order by connections - used limit 1) room"""
_LEDGER = """\
select t.name, has_schema_privilege(n.oid, 'usage') and (
           select bool_and(has_table_privilege(c.oid, p) or (p <> 'delete' and (
               select bool_and(has_column_privilege(c.oid, a.attnum, p)) from pg_attribute a
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)))
           from unnest(string_to_array(t.needs, ',')) p
       ) as allowed
from unnest($1::text[], $2::text[]) t(name, needs)
     join pg_namespace n on n.nspname = 'pipeline'
     join pg_class c on c.relnamespace = n.oid and c.relname = t.name"""


@attrs.frozen
class LedgerFacts:
    """The schema ``pipeline``.

    Attributes:
        version: the schema's version; None if there is none, or if it can't be read.
        forbidden: the tables that exist, but lack a privilege that the pipeline needs.
        missing: the tables that this configuration needs besides, and that do not exist.
        strangers: the tables that have the ledger's names and are somebody else's.
    """

    version: int | None
    forbidden: tuple[str, ...]
    missing: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()


@attrs.frozen
class ShardFacts:
    """What is known of a shard. If there is a ``problem``, nothing else is known.

    Attributes:
        problem: why the shard could not be asked.
        version: the server's, as in server_version_num: 180001.
        connections: how many the server allows to users who are not superusers.
        in_use: how many of these are in use, without this pipeline's own.
        read_only: whether transactions are read-only by default.
        search_path: where names without a schema are looked for.
        pooled: whether a pooler is between that gives each transaction another session.
        reached: the host that was taken, ``host:port``.
        table: the sink's table; None if it does not exist, or if the sink is a handler.
        tables: the names of the tables that there are, if the sink's is not among them.
        table_problem: why the table could not be read.
        unplanned: why Postgres does not plan the sink's statements, if nothing else is wrong with it.
        missing: the privileges on the table, or on its columns, that the sink needs and the role lacks.
        applied: what the ledger has of each partition: by stream, topic id and number.
        lanes: the lanes of each partition, alike.
    """

    config: ShardConfig
    problem: str | None = None
    version: int = 0
    connections: int = 0
    in_use: int = 0
    standby: bool = False
    read_only: bool = False
    search_path: str = ""
    pooled: bool = False
    reached: str = ""
    role: str = ""
    database: str = ""
    may_create: bool = False
    ledger: LedgerFacts | None = None
    table: Table | None = None
    tables: tuple[str, ...] = ()
    table_problem: str | None = None
    unplanned: str | None = None
    missing: tuple[str, ...] = ()
    applied: Mapping[tuple[str, UUID, int], AppliedOffsets] = attrs.field(factory=dict)
    lanes: Mapping[tuple[str, UUID, int], Sequence[LaneEntry]] = attrs.field(factory=dict)

    @property
    def server(self) -> str:
        """``host:port``, for messages and to tell servers apart."""
        return server_of(self.config.dsn)


def room(shards: Sequence[ShardFacts]) -> dict[str, int]:
    """Return server → the number of instances that its free connections suffice for.

    Behind a pooler it is the pooler's own limits that decide: such a server is left out.
    """
    servers: dict[str, list[ShardFacts]] = {}
    for shard in shards:
        if shard.problem is None and not shard.pooled:
            servers.setdefault(shard.server, []).append(shard)
    return {
        server: max(0, (on[0].connections - on[0].in_use) // sum(s.config.connections for s in on))
        for server, on in servers.items()
    }


async def ask_shards(config: Config) -> list[ShardFacts]:
    """Ask every shard at the same time, within the bridge. A checkpoint; every wait is bounded."""
    return await cross(_ask_all, config)


async def _ask_all(config: Config) -> list[ShardFacts]:
    return list(await asyncio.gather(*(_ask(config, shard) for shard in config.shards)))


def session_of(config: Config, shard: ShardConfig) -> Session:
    """Return the session of the check's connections to a shard."""
    return Session(
        f"{config.pipeline.name} check",
        statement_timeout=STATEMENT_SECONDS,
        lock_timeout=STATEMENT_SECONDS,
        connect_timeout=CONNECT_SECONDS,
        synchronous_commit=shard.synchronous_commit,
        search_path=shard.search_path,
    )


async def _ask(config: Config, shard: ShardConfig) -> ShardFacts:
    connections = Connections.of(shard, session_of(config, shard))
    try:
        facts = await connections.lease(partial(_facts, config=config, shard=shard))
        return attrs.evolve(facts, pooled=connections.pooled, reached=connections.server)
    except TimeoutError:
        return ShardFacts(shard, f"no answer within {CONNECT_SECONDS:.0f} s")
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return ShardFacts(shard, explain(error))
    finally:
        await connections.close()


async def _facts(connection: Connection, config: Config, shard: ShardConfig) -> ShardFacts:
    row = await connection.fetchrow(_SERVER, config.pipeline.name[:63])
    assert row is not None, "a select without from has one row"
    ledger = await _ledger(connection, extras_of(config))
    streams = [f"{config.kafka.group_id}/{topic}" for topic in config.kafka.topics]
    readable = config.pipeline.exactly_once and ledger.version is not None and not ledger.forbidden
    facts: dict[str, Any] = {
        **row,
        "in_use": max(0, row["in_use"]),
        "ledger": ledger,
        "applied": await read_streams(connection, streams) if readable else {},
        "lanes": await read_lanes(connection, streams) if readable else {},
        **await _table(connection, config),
    }
    return ShardFacts(shard, **facts)


def extras_of(config: Config) -> list[str]:
    """Return the names of the tables of the ledger that a configuration needs besides."""
    receipts = config.ingest is not None and config.ingest.receipts
    needed = {"refused": receipts, "idempotency_keys": config.records.dedupe_for is not None}
    return [name for name, wanted in needed.items() if wanted and config.pipeline.exactly_once]


async def _ledger(connection: Connection, extras: Sequence[str]) -> LedgerFacts:
    needed = {**PRIVILEGES, **{name: EXTRA_PRIVILEGES[name] for name in extras}}
    rows = await connection.fetch(_LEDGER, list(needed), list(needed.values()))
    forbidden = tuple(f"pipeline.{row['name']}" for row in rows if not row["allowed"])
    version = None
    if any(row["name"] == "schema_version" and row["allowed"] for row in rows):
        version = await version_of(connection)
    there = {row["name"] for row in rows}
    missing = tuple(f"pipeline.{name}" for name in extras if name not in there)
    strangers = () if "schema_version" in there else tuple(sorted(f"pipeline.{n}" for n in there))
    return LedgerFacts(version, forbidden, missing, strangers)


async def _table(connection: Connection, config: Config) -> dict[str, Any]:
    """Return the table's facts, or what Postgres says if the table can't be read."""
    sink = config.sink
    if sink.table is None:
        return {}
    try:
        table = await read_table(connection, sink.table)
        if table is None:
            return {"tables": tuple(await table_names(connection))}
        missing = await missing_privileges(connection, sink, table)
    except asyncpg.PostgresError as error:
        return {"table_problem": explain(error)}
    facts: dict[str, Any] = {"table": table, "missing": tuple(missing)}
    if not missing and not mistakes_of(sink, table):
        facts["unplanned"] = await _planned(connection, Sink(sink, table))
    return facts


async def _planned(connection: Connection, sink: Sink) -> str | None:
    """Let Postgres plan the sink's statements; return what it says where it can't. Nothing is run."""
    try:
        for statement in Statements(sink).plain.values():
            prepared = await connection.prepare(f"explain {statement}")
            await prepared.fetch(*[None] * len(prepared.get_parameters()))
    except asyncpg.PostgresError as error:
        return explain(error)
    return None
