"""Idempotency keys: which record was the first of its key, kept in the shard beside what is applied.

A record that a producer sends twice has two offsets, so the ledger of offsets takes it for two. Where
``records.dedupe_for`` is set, the transaction that applies records also inserts their keys, each with the
place of its record, under the same fence. The primary key makes it once: of two transactions that
have a key at the same time, the second waits for the first, and finds it committed or rolled back.

**One statement.** What applies a batch begins with `claiming`: it looks the batch's keys up, and goes on
only if none of them is another record's. Otherwise it writes nothing at all, no ledger's row either;
the applier asks which keys those are, leaves their records out, and sends the rest again. Left out, a
record counts as applied: its offset is in the ledger's row like the others'. Keys are inserted in
their order and before any row is locked, so transactions that share keys do not deadlock.

**The place** tells a record from itself: after a rewind a record meets its own key, and is applied.

What is rolled back leaves no key behind. So a dead letter does not use up its key: it is marked in a
transaction of its own, which inserts none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import attrs

from pipeline.contracts.store import Claim
from pipeline.postgres.connections.bridge import Connection
from pipeline.postgres.ledger.lease import (
    FENCE,
    GUARD_PARAMETERS,
    RECORD_APPLIED,
    Lease,
    fenced,
    guard,
)
from pipeline.records.idempotency import KeyOf
from pipeline.records.record import Record, TopicPartition

TABLE = """\
create table if not exists pipeline.idempotency_keys (
    stream        text not null,
    key           uuid not null,
    topic_id      uuid not null,
    partition     int not null,
    record_offset bigint not null,
    applied_at    timestamptz not null default now(),
    primary key (stream, key)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

create index if not exists idempotency_keys_by_age
    on pipeline.idempotency_keys (stream, applied_at);
"""

PRIVILEGES = "select,insert,update,delete"
"""Update is for the locks that deleting takes."""

Place = tuple[UUID, int, int]
"""Of the first record of a key: the topic's id, the partition, the offset."""

Known = Mapping[str, Place]
"""Keys that were applied, and where."""

_FIRST = GUARD_PARAMETERS + 1

CLAIM_PARAMETERS = 2
"""How many parameters `Selection.parameters` adds to those of `lease.guard`."""

_STREAM = "regexp_replace($1, '#[0-9]+$', '')"
"""The partition's stream, also where a lane's is given: a key is one in the lane and beside it."""

_KNOWN = """\
select k.key, k.topic_id, k.partition, k.record_offset from pipeline.idempotency_keys k
where k.stream = $1 and k.key = any(string_to_array($2, ',')::uuid[])"""


def claiming(condition: str = "true") -> str:
    """SQL of the common tables that a statement with keys begins with: ``lease``, …, ``fence``.

    ``fence`` has a row if the lease holds, ``condition`` is true, and each key is new, or the record's
    own; only then keys are inserted. Its parameters are those of `lease.guard` and of `Selection`.
    """
    return f"""\
with lease as ({FENCE}),
asked as materialized (
    select * from unnest(string_to_array(${_FIRST}, ',')::uuid[],
                         string_to_array(${_FIRST + 1}, ',')::int8[]) a(key, record_offset)
),
known as materialized (
    select key, (k.topic_id, k.partition, k.record_offset) = ($2, $3, asked.record_offset) as own
    from asked join pipeline.idempotency_keys k using (key) where k.stream = {_STREAM}
),
free as (
    select from lease where {condition} and not exists (select from known where not own)
),
claimed as (
    insert into pipeline.idempotency_keys (stream, key, topic_id, partition, record_offset)
    select {_STREAM}, key, $2, $3, record_offset from free, asked
    where key not in (select key from known) order by key
    returning key
),
fence as (select from free where (select count(*) from claimed) >= 0)"""


_CLAIM = (
    f"{claiming()},\nledger as ({RECORD_APPLIED} from fence)\n"
    "select (select count(*) from lease) as leased, (select count(*) from fence) as claimed"
)


@attrs.frozen
class Selection:
    """What of a batch is to be applied.

    Attributes:
        fresh: the records that are, in the batch's order.
        keys: the keys that are claimed for some of these, and
        offsets: their offsets.
        repeated: how many records were left out.
    """

    fresh: Sequence[Record]
    keys: Sequence[str]
    offsets: Sequence[int]
    repeated: int

    def parameters(self) -> tuple[str, str]:
        """The parameters of `claiming` after the guard's."""
        return ",".join(self.keys), ",".join(map(str, self.offsets))


class IdempotencyKeys:
    """The keys of one shard's records.

    Args:
        key_of: a record's key.
        count: called with how many records of a partition were left out.
    """

    def __init__(self, key_of: KeyOf, count: Callable[[TopicPartition, int], None]) -> None:
        self._key_of = key_of
        self._count = count

    def applied(self, claim: Claim, selection: Selection) -> None:
        """Count what was left out of a batch that is applied."""
        if selection.repeated:
            self._count(claim.source, selection.repeated)

    def select(self, claim: Claim, records: Sequence[Record], known: Known) -> Selection:
        """Leave out the records whose key is another record's.

        That is the one in ``known``, or else the one with the lowest offset in the batch.
        """
        keys = list(map(self._key_of, records))
        owner: dict[str, int] = {}
        for key, record in zip(keys, records, strict=True):
            if key is None:
                continue
            if key in known:
                topic_id, partition, offset = known[key]
                own = (topic_id, partition) == (claim.topic_id, claim.source.partition)
                owner[key] = offset if own else -1
            else:
                owner[key] = min(record.offset, owner.get(key, record.offset))
        fresh: list[Record] = []
        claimed: dict[str, int] = {}
        for key, record in zip(keys, records, strict=True):
            if key is None:
                fresh.append(record)
            elif owner[key] == record.offset:
                fresh.append(record)
                claimed[key] = record.offset
        repeated = len(records) - len(fresh)
        return Selection(fresh, list(claimed), list(claimed.values()), repeated)


async def find_known(connection: Connection, claim: Claim, keys: Sequence[str]) -> Known:
    """Return which of these keys were applied, and where. On asyncio."""
    rows = await connection.fetch(_KNOWN, claim.main.stream, ",".join(keys))
    return {
        row["key"].hex: (row["topic_id"], row["partition"], row["record_offset"]) for row in rows
    }


async def find_others(connection: Connection, claim: Claim, selection: Selection) -> Known:
    """Return which of a selection's keys are of other records than it claims them for. On asyncio."""
    found = await find_known(connection, claim, selection.keys)
    own = dict(zip(selection.keys, selection.offsets, strict=True))
    here = (claim.topic_id, claim.source.partition)
    return {key: place for key, place in found.items() if place != (*here, own[key])}


async def note(
    connection: Connection, lease: Lease, records: Sequence[Record], selection: Selection
) -> bool:
    """Claim a selection's keys, and note all records' offsets. On asyncio.

    Return False if a key is another record's: nothing was written, and a transaction around it is to be
    rolled back.

    Raises:
        Fenced: the lease is void.
    """
    parameters = (*guard(lease, records), *selection.parameters())
    try:
        row = await connection.fetchrow(_CLAIM, *parameters)
    except asyncpg.UniqueViolationError as error:
        if not is_race(error):
            raise
        return False
    assert row is not None, "a select without from has one row"
    if not row["leased"]:
        raise fenced(lease)
    return bool(row["claimed"])


def is_race(error: Exception) -> bool:
    """Whether two transactions inserted one key at the same time, and this is the one that lost."""
    found: Any = error
    return isinstance(error, asyncpg.UniqueViolationError) and (
        found.schema_name,
        found.table_name,
    ) == ("pipeline", "idempotency_keys")
