"""`pipeline check`: ask Kafka and Postgres, before anything runs, all that running will need.

::

    brokers     topics and their partitions, as Kafka has them
    newest      the newest records, and whether they have what is read of them
    tenants     whose they are, and in which partition
    databases   for each shard: is it there, what it allows, the sink's table, the ledger
    rules       configuration and facts → mistakes and warnings
    plan        what will be done, for a person, in 80 columns

Nothing is changed anywhere: no topic, no schema, no group is made. Every wait is bounded.

This is the last of four validators. `pipeline.config.kinds` judges each value by itself,
`pipeline.config.coherence` the values against each other, and `pipeline.postgres.sink.validate` the
sink against its table. The rules here judge the configuration against the world as it is.
"""

from __future__ import annotations

import attrs
import trio

from pipeline.check.brokers import KafkaFacts, ask_kafka
from pipeline.check.databases import ShardFacts, ask_shards
from pipeline.check.newest import Newest, ask_newest, missing_paths
from pipeline.check.rules import mistakes, warnings
from pipeline.check.tenants import TenantFacts, scattered_tenants, tenant_facts
from pipeline.config.mistakes import Mistake
from pipeline.config.model import Config
from pipeline.postgres.connections.bridge import open_bridge

__all__ = ["Findings", "inspect"]


@attrs.frozen
class Findings:
    """What was found: facts, mistakes (it can't run as configured), warnings (it can, but read them)."""

    kafka: KafkaFacts
    shards: tuple[ShardFacts, ...]
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]
    tenants: TenantFacts | None = None
    """None if the configuration names no tenant."""


async def inspect(config: Config) -> Findings:
    """Connect to everything at the same time, and judge what is found.

    A checkpoint. It takes as long as the slowest server, some seconds at most. A server that can't
    be reached is a mistake on the list, never an exception. Cancelled, it closes its connections.
    """
    kafka: list[KafkaFacts] = []
    newest: list[Newest] = []
    shards: list[ShardFacts] = []

    async def look_at_kafka() -> None:
        kafka.append(await ask_kafka(config))

    async def look_at_records() -> None:
        newest.append(await ask_newest(config))

    async with open_bridge(), trio.open_nursery() as nursery:
        nursery.start_soon(look_at_kafka)
        nursery.start_soon(look_at_records)
        shards.extend(await ask_shards(config))
    found = (config, kafka[0], shards)
    wrong, warned = list(mistakes(*found)), list(warnings(*found))
    tenants = tenant_facts(config, newest[0])
    if not wrong:  # otherwise the mistakes say why the records can't be read
        for missing, is_mistake in missing_paths(config, newest[0]):
            (wrong if is_mistake else warned).append(missing)
        if tenants is not None:
            warned.extend(scattered_tenants(config, tenants))
    return Findings(kafka[0], tuple(shards), tuple(wrong), tuple(warned), tenants)
