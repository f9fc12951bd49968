"""Where tenants are: the newest records of each partition, and whose they are.

A record's partition decides its shard, and the producer chooses the partition. So whether each
tenant's records are in one partition can only be seen on the topics themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from pipeline.check.newest import Newest
from pipeline.config.kinds import show_partitions
from pipeline.config.mistakes import Mistake
from pipeline.config.model import Config
from pipeline.partitioner import partition_for
from pipeline.postgres.sink.values import as_text
from pipeline.records.path import Path
from pipeline.records.record import TopicPartition

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
        self.elsewhere += source.partition != partition_for(tenant.encode(), partitions)


def tenant_facts(config: Config, newest: Newest) -> TenantFacts | None:
    """Return where the tenants of the newest records are; None if the configuration names no tenant."""
    if config.records.tenant is None:
        return None
    facts = TenantFacts(problem=newest.problem)
    get = Path.parse(config.records.tenant).getter()
    for record in newest.records:
        found = get(record)
        tenant = None if found is None else as_text(found)
        facts.count(record.source, tenant, newest.partitions[record.topic])
    return facts


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
            f"(such as {tenant!r}: {topic} {show_partitions(found)}, {where}): the producer must place "
            "records by their tenant",
        )
