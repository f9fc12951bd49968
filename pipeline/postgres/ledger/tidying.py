"""What the ledger keeps for a time only, deleted when the time is over: a little at once.

A step deletes at most `STEP` rows and passes over those that another instance is deleting, so it holds
its locks for milliseconds and waits for nobody. Between two steps is a pause as long as the step took.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pipeline.postgres.connections.bridge import Connection

STEP = 2_000

REASONS_SECONDS = 30 * 86_400.0
"""How long the reason of a dead letter is kept."""

FORGOTTEN = "forgotten"
"""The class of error of the row that stands for reasons which are kept no more; see `_REASONS`."""

_KEYS = """\
with old as (
    select ctid from pipeline.idempotency_keys
    where stream = any($1::text[]) and applied_at < now() - make_interval(secs => $2)
    order by stream, applied_at limit $3 for update skip locked
), gone as (
    delete from pipeline.idempotency_keys where ctid in (select ctid from old) returning 1
)
select count(*) from gone"""

_REASONS = f"""\
with old as (
    select ctid from pipeline.refused
    where stream = any($1::text[]) and error <> '{FORGOTTEN}'
        and refused_at < now() - make_interval(secs => $2)
    limit $3 for update skip locked
), gone as (
    delete from pipeline.refused where ctid in (select ctid from old)
    returning stream, topic_id, partition, record_offset
), marks as (
    insert into pipeline.refused as r
        (stream, topic_id, partition, record_offset, reason, error, sqlstate)
    select stream, topic_id, partition, -1, max(record_offset)::text, '{FORGOTTEN}', null
    from gone group by 1, 2, 3 order by 1, 2, 3
    on conflict (stream, topic_id, partition, record_offset)
    do update set reason = greatest(r.reason::int8, excluded.reason::int8)::text
)
select count(*) from gone"""
"""Of each partition one row stays, at offset -1: up to which offset reasons may be missing."""


@attrs.frozen
class Chore:
    """Rows that are deleted when they are old enough.

    Attributes:
        what: for the log.
        statement: deletes some: of streams ($1), of an age in seconds ($2), so many ($3).
        seconds: how old they become.
        waits: whether records that still wait make them older: they may be asked for by those.
    """

    what: str
    statement: str
    seconds: float
    waits: bool = False


def keys_chore(seconds: float) -> Chore:
    """Return what deletes idempotency keys that have been there for so long."""
    return Chore("idempotency keys", _KEYS, seconds, waits=True)


def reasons_chore() -> Chore:
    """Return what deletes the reasons of dead letters."""
    return Chore("reasons of dead letters", _REASONS, REASONS_SECONDS)


async def step(connection: Connection, chore: Chore, streams: Sequence[str], lag: float) -> int:
    """Delete some rows, and return how many. One statement. On asyncio."""
    age = chore.seconds + (lag if chore.waits else 0.0)
    return int(await connection.fetchval(chore.statement, list(streams), age, STEP))
