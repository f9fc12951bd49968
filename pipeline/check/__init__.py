"""`pipeline check`: ask Kafka and Postgres, before anything runs, all that running will need.

::

    brokers     topics and their partitions, as Kafka has them
    newest      the newest records, and whether they have what is read of them
    tenants     whose they are, and in which partition
    databases   for each shard: is it there, what it allows, the sink's table, the ledger
    privileges  what the role may do with that table, column by column
    starts      where each partition would begin and why, and which have changed shards
    fitness     whether the newest records' keys and values fit; casts has Postgres try them
    port        whether the HTTP port can be listened on
    rules       configuration and facts → mistakes
    advice      the same → warnings: what a person should know, though it runs
    plan        what will be done, for a person, in 80 columns

Nothing is changed anywhere: no topic, no schema, no group is made. Every wait is bounded.

This is the last of four validators. `pipeline.config.kinds` judges each value by itself,
`pipeline.config.coherence` the values against each other, and `pipeline.postgres.sink.validate` the
sink against its table. The rules here judge the configuration against the world as it is.
"""

from __future__ import annotations

import attrs
import trio

from pipeline.check.advice import warnings
from pipeline.check.brokers import KafkaFacts, ask_kafka
from pipeline.check.casts import Refused
from pipeline.check.databases import ShardFacts, ask_shards
from pipeline.check.fitness import ask_fitness, fitness_findings
from pipeline.check.newest import Newest, ask_newest, missing_paths
from pipeline.check.port import PortFacts, ask_port, port_findings
from pipeline.check.rules import mistakes
from pipeline.check.starts import (
    PartitionStart,
    find_starts,
    moved_partitions,
    start_mistakes,
    start_warnings,
)
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
    starts: tuple[PartitionStart, ...] = ()
    """Where partitions would begin; empty if Kafka did not tell."""


async def inspect(config: Config) -> Findings:
    """Connect to everything at the same time, and judge what is found.

    A checkpoint. It takes as long as the slowest server, some seconds at most. A server that can't
    be reached is a mistake on the list, never an exception. Cancelled, it closes its connections.
    """
    kafka: list[KafkaFacts] = []
    newest: list[Newest] = []
    shards: list[ShardFacts] = []
    ports: list[PortFacts] = []

    async def look_at_kafka() -> None:
        kafka.append(await ask_kafka(config))

    async def look_at_records() -> None:
        newest.append(await ask_newest(config))

    async def look_at_port() -> None:
        ports.append(await ask_port(config.http))

    refused: list[Refused] = []
    async with open_bridge():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_at_kafka)
            nursery.start_soon(look_at_records)
            nursery.start_soon(look_at_port)
            shards.extend(await ask_shards(config))
        refused.extend(await ask_fitness(config, newest[0], shards))
    return _judge(config, kafka[0], newest[0], shards, ports[0], refused)


def _judge(
    config: Config,
    kafka: KafkaFacts,
    newest: Newest,
    shards: list[ShardFacts],
    port: PortFacts,
    refused: list[Refused],
) -> Findings:
    """Turn all facts into what is wrong and what should be known."""
    wrong, warned = list(mistakes(config, kafka, shards)), list(warnings(config, kafka, shards))
    of_port = port_findings(port)
    tenants = tenant_facts(config, newest)
    readable = not wrong  # otherwise the mistakes say why the records can't be read
    wrong.extend(of_port[0])
    warned.extend(of_port[1])
    starts = find_starts(config, newest.positions, newest.topic_ids, shards)
    wrong.extend(moved_partitions(config, newest.topic_ids, shards))
    if readable:
        if newest.problem is not None and tenants is None:
            warned.append(Mistake("", f"the newest records can't be read: {newest.problem}"))
        wrong.extend(start_mistakes(starts))
        warned.extend(start_warnings(starts))
        _judge_records(config, newest, refused, wrong, warned)
        if tenants is not None:
            warned.extend(scattered_tenants(config, tenants))
    return Findings(kafka, tuple(shards), tuple(wrong), tuple(warned), tenants, tuple(starts))


def _judge_records(
    config: Config,
    newest: Newest,
    refused: list[Refused],
    wrong: list[Mistake],
    warned: list[Mistake],
) -> None:
    """Add what the newest records show. A key of the configuration is told of once."""
    told: set[str] = set()
    for found in (missing_paths(config, newest), fitness_findings(config, newest, refused)):
        fresh = [(each, is_mistake) for each, is_mistake in found if each.key not in told]
        told.update(each.key for each, _ in fresh)
        for each, is_mistake in fresh:
            (wrong if is_mistake else warned).append(each)
