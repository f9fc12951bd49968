"""What `pipeline check` looks at, before anything runs: all of Kafka and Postgres that it needs.

::

    brokers     topics and their partitions, as Kafka tells them
    databases   each shard: reachable, what it allows, the sink's table, the ledger
    rules       configuration and facts → mistakes and warnings
    plan        what will be done, for a person, in 80 columns

Nothing is changed anywhere: no topic, no schema, no group is made. Every wait is bounded.
"""

from __future__ import annotations

import attrs
import trio

from pipeline.check.brokers import KafkaFacts, ask_kafka
from pipeline.check.databases import ShardFacts, ask_shards
from pipeline.check.rules import mistakes, warnings
from pipeline.config import Config
from pipeline.postgres.bridge import open_bridge
from pipeline.settings import Mistake

__all__ = ["Findings", "inspect"]


@attrs.frozen
class Findings:
    """What was found: facts, mistakes (it can't run so) and warnings (it can, but think)."""

    kafka: KafkaFacts
    shards: tuple[ShardFacts, ...]
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]


async def inspect(config: Config) -> Findings:
    """Connect to everything at the same time, and judge what is found.

    A checkpoint; takes no longer than the slowest server, some seconds at most. What can't be
    reached is a mistake on the list, never an exception.
    """
    kafka: list[KafkaFacts] = []
    shards: list[ShardFacts] = []

    async def look_at_kafka() -> None:
        kafka.append(await ask_kafka(config))

    async with open_bridge(), trio.open_nursery() as nursery:
        nursery.start_soon(look_at_kafka)
        shards.extend(await ask_shards(config))
    found = (config, kafka[0], shards)
    return Findings(kafka[0], tuple(shards), tuple(mistakes(*found)), tuple(warnings(*found)))
