"""Pure functions from a configuration and the facts to mistakes: what keeps it from running."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.check.brokers import KafkaFacts
from pipeline.check.databases import ShardFacts
from pipeline.config.kinds import show_partitions
from pipeline.config.mistakes import Mistake, describe
from pipeline.config.model import Config
from pipeline.errors import PipelineError
from pipeline.postgres.handlers.load import load_handler
from pipeline.postgres.ledger.schema import VERSION, strangers_problem
from pipeline.postgres.sink.validate import mistakes_of

OLDEST_SERVER = 150_000
"""The sink writes by MERGE, which Postgres has had since version 15."""


def mistakes(config: Config, kafka: KafkaFacts, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Yield everything that keeps the pipeline from running as configured."""
    yield from _handler(config)
    yield from _topics(config, kafka)
    for shard in shards:
        yield from _shard(config, shard)
    yield from _table(config, shards)


def _handler(config: Config) -> Iterator[Mistake]:
    if config.sink.handler is None:
        return
    try:
        load_handler(config.sink.handler, Path(config.source))
    except PipelineError as error:
        yield Mistake("sink.handler", str(error).removeprefix("[sink] handler "))


def _topics(config: Config, kafka: KafkaFacts) -> Iterator[Mistake]:
    if kafka.problem is not None:
        yield Mistake("kafka.bootstrap_servers", kafka.problem)
        return
    if kafka.group_denied:
        yield Mistake("kafka.group_id", kafka.group_denied)
    for topic in config.kafka.topics:
        yield from _topic("kafka.topics", topic, kafka)
        count = kafka.partitions(topic)
        uncovered = [n for n in range(count or 0) if not _covered(config, n)]
        if uncovered:
            yield Mistake(
                "shards",
                f"topic {describe(topic)} has {count} partitions, and no shard covers "
                f"{show_partitions(uncovered)}: add to the partitions of a shard",
            )
    if config.errors.dead_letter_topic is not None:
        yield from _topic("errors.dead_letter_topic", config.errors.dead_letter_topic, kafka)


def _topic(key: str, topic: str, kafka: KafkaFacts) -> Iterator[Mistake]:
    if topic in kafka.denied:
        yield Mistake(key, kafka.denied[topic])
        return
    found = kafka.topics.get(topic, "can't be used: Kafka does not describe it")
    if isinstance(found, str):
        yield Mistake(key, f"topic {describe(topic)} {found}")


def _covered(config: Config, partition: int) -> bool:
    return any(s.partitions is None or partition in s.partitions for s in config.shards)


def _shard(config: Config, shard: ShardFacts) -> Iterator[Mistake]:
    key = f"shards[{shard.config.name}].dsn"
    if shard.problem is not None:
        yield Mistake(key, f"{shard.server} can't be used: {shard.problem}")
        return
    if shard.standby:
        yield Mistake(key, f"{shard.server} is a standby, which takes no writes: name the primary")
    elif shard.read_only:
        yield Mistake(
            key,
            f"{shard.server} takes no writes: default_transaction_read_only is on, for database "
            f"{shard.database}, role {shard.role}, or the server; as an example: alter role "
            f"{shard.role} set default_transaction_read_only = off",
        )
    if shard.version < OLDEST_SERVER:
        yield Mistake(key, f"{shard.server} is too old: PostgreSQL 15 or later is needed")
    if config.pipeline.exactly_once:
        for problem in _ledger(shard):
            yield Mistake(key, problem)


def _ledger(shard: ShardFacts) -> Iterator[str]:
    ledger = shard.ledger
    assert ledger is not None, "a shard without a problem has been asked"
    if ledger.strangers:
        yield strangers_problem(ledger.strangers)
        return
    if ledger.forbidden:
        yield (
            f"role {shard.role} may not use {', '.join(ledger.forbidden)}: grant usage on schema "
            f"pipeline to {shard.role}; grant select, insert, update, delete on all tables in "
            f"schema pipeline to {shard.role}"
        )
    if ledger.version is not None and ledger.version > VERSION:
        yield f"the ledger was made by a later pipeline (version {ledger.version}): upgrade this one"
    behind = ledger.version is None or ledger.version < VERSION or bool(ledger.missing)
    if behind and not ledger.forbidden and not shard.may_create:
        yield (
            f"role {shard.role} may not create the ledger in database {shard.database}: have its "
            "owner run what `pipeline check --ddl` prints"
        )


def _table(config: Config, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Yield what is wrong with the sink's table, each once, with the shards that have it."""
    where: dict[str, list[str]] = {}
    asked = [shard for shard in shards if shard.problem is None]
    for shard in asked if config.sink.table is not None else ():
        for problem in _table_problems(config, shard):
            where.setdefault(problem, []).append(shard.config.name)
    for problem, names in where.items():
        everywhere = len(names) == len(shards)
        yield Mistake("sink" if everywhere else f"shards[{', '.join(names)}]", problem)


def _table_problems(config: Config, shard: ShardFacts) -> Iterator[str]:
    if shard.table_problem is not None:
        yield f"table {config.sink.table} can't be read: {shard.table_problem}"
        return
    yield from mistakes_of(config.sink, shard.table, shard.tables)
    if shard.unplanned is not None:
        yield f'table {config.sink.table} can\'t take mode = "{config.sink.mode}": {shard.unplanned}'
    if shard.missing:
        wanted = ", ".join(shard.missing)
        yield (
            f"role {shard.role} may not {wanted}: "
            f"grant {wanted} on {config.sink.table} to {shard.role}"
        )
