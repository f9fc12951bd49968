"""The end: every row of both databases compared with the rows that the events amount to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import orjson

from pipeline.demo.events import Subscription, partition_of
from pipeline.demo.stage import SHARDS
from pipeline.postgres.connections.bridge import Connection, Connections, cross

SHOWN = 10
"""How many of the differing rows are shown."""

Rows = Mapping[int, Subscription]


@attrs.frozen
class DemoVerdict:
    """What the demo found.

    Attributes:
        records: how many records were produced.
        rows: how many rows they amount to.
        killed: which instance was killed, and when it was back: a sentence.
        rescued: records that were applied but not committed to Kafka when the instance died.
        differences: a sentence for each row that is not as it should be.
    """

    records: int
    rows: int
    killed: str
    rescued: int
    differences: list[str]

    @property
    def good(self) -> bool:
        """Whether every row is as it should be."""
        return not self.differences

    def text(self) -> str:
        """Return the verdict for a person, within 80 columns (differing rows may be longer)."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.good:
            yield "GOOD: every record was applied exactly once, and in order by key."
        else:
            yield f"BAD: {len(self.differences):,} of {self.rows:,} rows are not as they should be."
        yield ""
        yield f"  records produced   {self.records:,}"
        yield f"  rows compared      {self.rows:,}, in {len(SHARDS)} databases, every column"
        yield f"  killed             {self.killed}"
        if self.rescued:
            yield f"  counted once       {self.rescued:,} records that were in Postgres, but not yet"
            yield "                     committed to Kafka, when it died: by Kafka's offsets alone"
            yield "                     they would have been applied again"
        yield f"  differences        {len(self.differences):,}"
        for difference in self.differences[:SHOWN]:
            yield f"    {difference}"
        if len(self.differences) > SHOWN:
            yield f"    and {len(self.differences) - SHOWN:,} more"


async def compare(databases: Mapping[str, Connections], expected: Rows) -> list[str]:
    """Return what differs between the databases and the expected rows; within the bridge.

    A checkpoint.
    """
    found = {name: await cross(database.lease, _rows) for name, database in databases.items()}
    return list(differences(expected, found))


def differences(expected: Rows, found: Mapping[str, Rows]) -> Iterator[str]:
    """Yield a sentence for each row that is missing, differs, or should not be in that database."""
    shard_of = {number: shard for shard, numbers in SHARDS.items() for number in numbers}
    for id, row in expected.items():
        shard = shard_of[partition_of(row.app_id)]
        stored = found[shard].get(id)
        if stored is None:
            yield f"{shard} id {id}: missing, expected {row.session_count} sessions"
        elif stored != row:
            yield f"{shard} id {id}: {', '.join(_columns(row, stored))}"
    for shard, rows in found.items():
        for id, stored in rows.items():
            if id not in expected or shard_of[partition_of(expected[id].app_id)] != shard:
                yield f"{shard} id {id}: should not be there ({stored.session_count} sessions)"


def _columns(expected: Subscription, stored: Subscription) -> Iterator[str]:
    wanted, is_there = attrs.asdict(expected), attrs.asdict(stored)
    for column, value in wanted.items():
        if is_there[column] != value:
            yield f"{column} is {is_there[column]}, expected {value}"


async def _rows(connection: Connection) -> dict[int, Subscription]:
    records = await connection.fetch(
        "select id, app_id, session_count, last_seen, tags, last_event from subscriptions"
    )
    return {
        record["id"]: Subscription(
            record["app_id"],
            record["session_count"],
            record["last_seen"],
            orjson.loads(record["tags"]),
            record["last_event"],
        )
        for record in records
    }
