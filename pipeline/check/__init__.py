"""`pipeline check`: ask Kafka and Postgres, before anything runs, all that running will need.

::

    brokers     topics and their partitions, as Kafka has them
    tenants     whose the newest records are, and in which partition
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
from pipeline.check.rules import mistakes, warnings
from pipeline.check.tenants import TenantFacts, ask_tenants, scattered_tenants
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
    tenants: list[TenantFacts | None] = []
    shards: list[ShardFacts] = []

    async def look_at_kafka() -> None:
        kafka.append(await ask_kafka(config))

    async def look_at_tenants() -> None:
        tenants.append(await ask_tenants(config))

    async with open_bridge(), trio.open_nursery() as nursery:
        nursery.start_soon(look_at_kafka)
        nursery.start_soon(look_at_tenants)
        shards.extend(await ask_shards(config))
    found = (config, kafka[0], shards)
    wrong, warned = list(mistakes(*found)), list(warnings(*found))
    if tenants[0] is not None and not wrong:  # otherwise the mistakes say why they can't be read
        warned.extend(scattered_tenants(config, tenants[0]))
    return Findings(kafka[0], tuple(shards), tuple(wrong), tuple(warned), tenants[0])
