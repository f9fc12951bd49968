"""What the instances have done so far, according to the ledgers and to Kafka's group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import asyncpg
import attrs
import trio
from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.errors import KafkaError

from pipeline.demo.events import PARTITIONS
from pipeline.demo.stage import GROUP, STREAM, TOPIC
from pipeline.errors import PipelineError
from pipeline.postgres.connections.bridge import Connection, Connections, Session, cross
from pipeline.postgres.ledger.reading import read_stream


@attrs.frozen
class Applied:
    """What a ledger says about a partition.

    Attributes:
        owner: the instance that took it over last.
        count: how many of its records are applied.
        watermark: everything below this offset is applied.
    """

    owner: str
    count: int
    watermark: int


class Ledgers:
    """The ledgers of all shards, read from Trio within the bridge."""

    def __init__(self, dsns: Mapping[str, str]) -> None:
        session = Session("pipeline demo", statement_timeout=10.0)
        self.databases = {name: Connections(dsn, session) for name, dsn in dsns.items()}

    async def read(self) -> dict[int, Applied]:
        """Return partition → what is applied; partitions without an owner so far are omitted.

        A checkpoint.

        Raises:
            PipelineError: a database does not answer.
        """
        return await cross(self._read)

    async def _read(self) -> dict[int, Applied]:
        try:
            found = await asyncio.gather(*(d.lease(_applied) for d in self.databases.values()))
        except (OSError, asyncpg.PostgresError) as error:
            raise PipelineError(f"the demo's Postgres does not answer: {error}") from error
        return {partition: applied for shard in found for partition, applied in shard.items()}

    async def close(self) -> None:
        """Close the connections. A checkpoint; the bridge bounds its time."""
        for database in self.databases.values():
            await cross(database.close)


async def _applied(connection: Connection) -> dict[int, Applied]:
    found = {}
    for partition, entry in (await read_stream(connection, STREAM)).items():
        ranges = entry.applied
        watermark = ranges[0][1] if ranges and ranges[0][0] == 0 else 0
        count = sum(end - start for start, end in ranges)
        found[partition] = Applied(entry.owner, count, watermark)
    return found


@attrs.frozen
class Offsets:
    """The group's committed offsets, and the ends of the logs, by partition."""

    committed: dict[int, int]
    ends: dict[int, int]

    @property
    def caught_up(self) -> bool:
        """Whether everything on the topic is applied and committed."""
        return self.committed == self.ends


async def read_offsets(bootstrap: str) -> Offsets:
    """Ask Kafka, on a thread. A checkpoint; it can't be cancelled while the thread works.

    Raises:
        PipelineError: Kafka does not answer.
    """
    try:
        return await trio.to_thread.run_sync(partial(_offsets, bootstrap))
    except KafkaError as error:
        raise PipelineError(f"the demo's Kafka does not answer: {error}") from error


def _offsets(bootstrap: str) -> Offsets:
    partitions = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, client_id="demo-offsets")
    try:
        committed = admin.list_group_offsets({GROUP: partitions})[GROUP]
        ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    finally:
        admin.close()
    return Offsets(
        {p.partition: max(0, committed[p].offset) if p in committed else 0 for p in partitions},
        {p.partition: ends[p].offset for p in partitions},
    )
