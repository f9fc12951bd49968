"""Where tenants are: the newest records of each partition, and whose they are.

A record's partition decides its shard, and the producer chooses the partition. So whether each
tenant's records are in one partition can only be seen on the topics themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import attrs
import orjson
import trio
from kafka.errors import KafkaError

from pipeline.check.brokers import ANSWER_SECONDS, CONNECT_SECONDS
from pipeline.check.rules import shown
from pipeline.config.mistakes import Mistake
from pipeline.config.model import Config
from pipeline.errors import PipelineError
from pipeline.kafka.partitioner import default_partition
from pipeline.operate.cluster import Cluster, open_cluster
from pipeline.postgres.sink.values import as_text
from pipeline.records.path import Path
from pipeline.records.record import RawRecord, Record, TopicPartition

NEWEST = 20
"""How many offsets below its end are read of each partition; some of them may hold no record."""
SECONDS = CONNECT_SECONDS + ANSWER_SECONDS

Tenant = tuple[str, str]
"""A topic, and the tenant as text."""


@attrs.define
class TenantFacts:
    """What the newest records show.

    Attributes:
        records: how many were read.
        without: how many of them have no tenant at the configured path.
        places: tenant → the partitions of its topic that hold its records.
        elsewhere: how many are not where Kafka's default partitioner would put their tenant.
        problem: why the records could not be read.
    """

    records: int = 0
    without: int = 0
    places: dict[Tenant, set[int]] = attrs.field(factory=dict)
    elsewhere: int = 0
    problem: str | None = None

    def scattered(self) -> dict[Tenant, set[int]]:
        """Return the tenants that have records in several partitions."""
        return {tenant: found for tenant, found in self.places.items() if len(found) > 1}

    def count(self, source: TopicPartition, tenant: str | None, partitions: int) -> None:
        """Count one record, whose topic has ``partitions`` partitions."""
        self.records += 1
        if tenant is None:
            self.without += 1
            return
        self.places.setdefault((source.topic, tenant), set()).add(source.partition)
        self.elsewhere += source.partition != default_partition(tenant.encode(), partitions)


async def ask_tenants(config: Config) -> TenantFacts | None:
    """Read the newest records, for `SECONDS` at most; None if the configuration names no tenant.

    A checkpoint. If the time is over, or it is cancelled, the thread that reads is left behind.
    """
    if config.records.tenant is None:
        return None
    with trio.move_on_after(SECONDS):
        try:
            return await trio.to_thread.run_sync(partial(_look, config), abandon_on_cancel=True)
        except (PipelineError, KafkaError, OSError, ValueError) as error:
            return TenantFacts(problem=str(error))
    return TenantFacts(problem=f"no answer within {SECONDS:.0f} s")


def scattered_tenants(config: Config, facts: TenantFacts) -> Iterator[Mistake]:
    """Yield what a person should know about where tenants are.

    The newest records are a sample: they can show that something is wrong, not that all is well.
    """
    if facts.problem is not None:
        yield Mistake("records.tenant", f"the newest records can't be read: {facts.problem}")
    if facts.without:
        yield Mistake(
            "records.tenant",
            f"{facts.without} of the {facts.records} newest records have no "
            f"{config.records.tenant}: it is unknown which partition they belong to",
        )
    scattered = facts.scattered()
    if scattered:
        (topic, tenant), found = min(scattered.items())
        shards = sorted({config.shard_for(partition).name for partition in found})
        where = f"shards {', '.join(shards)}" if len(shards) > 1 else f"shard {shards[0]}"
        yield Mistake(
            "records.tenant",
            f"{len(scattered)} of {len(facts.places)} tenants have records in several partitions "
            f"(such as {tenant!r}: {topic} {shown(found)}, {where}): the producer must place "
            "records by their tenant",
        )


def _look(config: Config) -> TenantFacts:
    assert config.records.tenant is not None, "asked only where it is named"
    tenant_of = _tenant_getter(config.records.tenant)
    facts = TenantFacts()
    with open_cluster(config) as cluster:
        counts = {topic: len(cluster.partitions(topic)) for topic in config.kafka.topics}
        for source, raws in cluster.read(_newest(cluster, config.kafka.topics)):
            for raw in raws:
                facts.count(source, tenant_of(source, raw), counts[source.topic])
    return facts


def _newest(cluster: Cluster, topics: Iterable[str]) -> Mapping[TopicPartition, tuple[int, int]]:
    sources = [source for topic in topics for source in cluster.partitions(topic)]
    return {
        source: (max(start, end - NEWEST), end)
        for source, (start, end) in cluster.bounds(sources).items()
    }


def _tenant_getter(path: str) -> Callable[[TopicPartition, RawRecord], str | None]:
    parsed = Path.parse(path)
    get = parsed.getter()

    def tenant_of(source: TopicPartition, raw: RawRecord) -> str | None:
        document = None
        if parsed.in_value and raw.value is not None:
            try:
                document = orjson.loads(raw.value)
            except orjson.JSONDecodeError:
                return None
        found = get(Record(source, raw.offset, raw, document, None))
        return None if found is None else as_text(found)

    return tenant_of
