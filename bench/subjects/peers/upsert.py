"""What the hand-written loops share: fold a batch to one row per key, one ``unnest`` upsert.

Nothing of the pipeline is imported here: the loops run in a virtual environment of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import asyncpg
import orjson

STATEMENT = """\
insert into sessions as t (id, app_id, last_seen, session_count, tags)
select i, a, l::timestamptz, s, g::jsonb
from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[]) u(i, a, l, s, g)
on conflict (id) do update set
    app_id = excluded.app_id, last_seen = excluded.last_seen,
    session_count = t.session_count + excluded.session_count, tags = excluded.tags"""


def arguments(about: str) -> argparse.ArgumentParser:
    """Make the parser of the options that every program here takes."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--dsn", required=True)
    return parser


def folded(values: Iterable[bytes]) -> list[dict[str, Any]]:
    """Fold JSON values in order: one document per key, counts added, sorted by key (no deadlocks)."""
    rows: dict[int, dict[str, Any]] = {}
    loads = orjson.loads
    for value in values:
        document = loads(value)
        older = rows.get(document["id"])
        if older is not None:
            document["session_count"] += older["session_count"]
        rows[document["id"]] = document
    return sorted(rows.values(), key=itemgetter("id"))


def columns(documents: list[dict[str, Any]]) -> tuple[list[Any], ...]:
    """Lay out documents as the statement's five arrays."""
    dumps = orjson.dumps
    return (
        [document["id"] for document in documents],
        [document["app_id"] for document in documents],
        [document["last_seen"] for document in documents],
        [document["session_count"] for document in documents],
        [dumps(document["tags"]).decode() for document in documents],
    )


class Writer:
    """One connection and its prepared statement, on asyncio; one write at a time."""

    def __init__(self, connection: asyncpg.Connection[Any], statement: Any) -> None:
        self._connection = connection
        self._statement = statement

    @classmethod
    async def open(cls, dsn: str) -> Writer:
        """Connect and prepare the statement."""
        connection = await asyncpg.connect(dsn)
        return cls(connection, await connection.prepare(STATEMENT))

    async def write(self, arrays: tuple[list[Any], ...]) -> None:
        """Write one batch; it is committed when this returns."""
        await self._statement.fetch(*arrays)
