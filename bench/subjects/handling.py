"""The handlers that `bench.handlers` measures, as a user would write them.

A call may be repeated after a rollback, so no handler changes its records or their documents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson
import trio

from bench.subjects.peers.upsert import columns
from pipeline import Record, Transaction, packed, unpacked

UPSERT = """\
insert into sessions as t (id, app_id, last_seen, session_count, tags)
values ($1, $2, $3::text::timestamptz, $4, $5::text::jsonb)
on conflict (id) do update set
    app_id = excluded.app_id, last_seen = excluded.last_seen,
    session_count = t.session_count + excluded.session_count, tags = excluded.tags"""

BATCH = f"""\
insert into sessions as t (id, app_id, last_seen, session_count, tags)
select i, a, l::timestamptz, s, g::jsonb
from unnest({unpacked(["bigint", "text", "text", "bigint", "text"])}) u(i, a, l, s, g)
on conflict (id) do update set
    app_id = excluded.app_id, last_seen = excluded.last_seen,
    session_count = t.session_count + excluded.session_count, tags = excluded.tags"""

INSERT = """\
insert into sessions (id, app_id, session_count) values ($1, $2, 0) on conflict (id) do nothing"""
UPDATE = """\
update sessions set app_id = $2, last_seen = $3::text::timestamptz,
    session_count = session_count + $4, tags = $5::text::jsonb
where id = $1"""


def row(document: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of one record's row."""
    return (
        document["id"], document["app_id"], document["last_seen"], document["session_count"],
        orjson.dumps(document["tags"]).decode(),
    )  # fmt: skip


async def upsert(tx: Transaction, records: Sequence[Record]) -> None:
    """Upsert each record by a statement of its own."""
    for record in records:
        tx.queue(UPSERT, *row(record.document))


async def two(tx: Transaction, records: Sequence[Record]) -> None:
    """Execute two statements per record, in turn."""
    for record in records:
        values = row(record.document)
        tx.queue(INSERT, *values[:2])
        tx.queue(UPDATE, *values)


async def batch(tx: Transaction, records: Sequence[Record]) -> None:
    """Upsert a whole batch by one ``unnest`` statement, as the declared sink does."""
    rows: dict[int, dict[str, Any]] = {}
    for record in records:
        newer = record.document
        older = rows.get(newer["id"])
        if older is not None:
            newer = {**newer, "session_count": older["session_count"] + newer["session_count"]}
        rows[newer["id"]] = newer
    ordered = sorted(rows.values(), key=itemgetter("id"))
    tx.queue(BATCH, *packed(columns(ordered)))


def _slow(seconds: float) -> Callable[[Transaction, Sequence[Record]], Awaitable[None]]:
    async def slow(tx: Transaction, records: Sequence[Record]) -> None:
        for record in records:
            await trio.sleep(seconds)
            tx.queue(UPSERT, *row(record.document))

    return slow


slow_10_ms = _slow(0.01)
slow_100_ms = _slow(0.1)
