"""Pure functions from a configuration and the facts to mistakes and warnings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from kafka.record.util import crc32c_c

from pipeline.check.brokers import KafkaFacts
from pipeline.check.databases import ShardFacts
from pipeline.config.mistakes import Mistake, describe
from pipeline.config.model import Config
from pipeline.errors import PipelineError
from pipeline.operate.console import counted
from pipeline.postgres.handlers.load import load_handler
from pipeline.postgres.ledger.schema import VERSION, strangers_problem
from pipeline.postgres.sink.merges import FLOATS
from pipeline.postgres.sink.validate import mistakes_of
from pipeline.records.ranges import ranges_of

OLDEST_SERVER = 150_000
"""The sink writes by MERGE, which Postgres has had since version 15."""


def mistakes(config: Config, kafka: KafkaFacts, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Yield everything that keeps the pipeline from running as configured."""
    yield from _handler(config)
    yield from _topics(config, kafka)
    for shard in shards:
        yield from _shard(config, shard)
    yield from _table(config, shards)


def warnings(config: Config, kafka: KafkaFacts, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Yield everything that a person should know before the pipeline runs."""
    for server, reason in kafka.away.items():
        yield Mistake("kafka.bootstrap_servers", f"{server} can't be used: {reason}")
    yield from _in_the_clear(config)
    yield from _order(config)
    yield from _partition_counts(config, kafka)
    yield from _idle_partitions(config, kafka)
    yield from _connections(shards)
    yield from _types(config, shards)
    yield from _rounded_sums(config, shards)
    yield from _views(config, shards)
    yield from _commits(config)
    if crc32c_c is None:
        yield Mistake(
            "", "checksums are computed in pure Python, which costs about four times the CPU of "
            "everything else: pip install crc32c",
        )  # fmt: skip


def _in_the_clear(config: Config) -> Iterator[Mistake]:
    options = config.kafka.options
    if options.get("security_protocol") == "SASL_PLAINTEXT":
        told = "records travel unencrypted"
        if options.get("sasl_mechanism") == "PLAIN":
            told = "the password and the records travel unencrypted"
        yield Mistake("kafka.security_protocol", f"{told}: SASL_SSL, where the brokers offer it")


def _views(config: Config, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    if not config.sink.primary_key:
        return
    for shard in shards:
        if shard.table is not None and shard.table.kind == "v":
            yield Mistake(
                "sink.table",
                f"{config.sink.table} is a view (shard {shard.config.name}), so a unique index on "
                f"({', '.join(config.sink.primary_key)}) can't be seen: the table beneath must have "
                "one, or a row may be there twice",
            )


def shown(partitions: Collection[int]) -> str:
    """Return partition numbers as the configuration writes them: ``0-2,5``."""
    return ",".join(
        str(start) if end == start + 1 else f"{start}-{end - 1}"
        for start, end in ranges_of(partitions)
    )


def room(shards: Sequence[ShardFacts]) -> dict[str, int]:
    """Return server → the number of instances that its free connections suffice for.

    Behind a pooler it is the pooler's own limits that decide: such a server is left out.
    """
    servers: dict[str, list[ShardFacts]] = {}
    for shard in shards:
        if shard.problem is None and not shard.pooled:
            servers.setdefault(shard.server, []).append(shard)
    return {
        server: max(0, (on[0].connections - on[0].in_use) // sum(s.config.connections for s in on))
        for server, on in servers.items()
    }


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
                f"{shown(uncovered)}: add to the partitions of a shard",
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
    if shard.missing:
        wanted = ", ".join(shard.missing)
        yield (
            f"role {shard.role} may not {wanted}: "
            f"grant {wanted} on {config.sink.table} to {shard.role}"
        )


def _order(config: Config) -> Iterator[Mistake]:
    """Warn if no ordering key is a column of the primary key: records of a row may get out of order.

    The key may be coarser than the row (a tenant's id), but the row must determine it.
    """
    sink = config.sink
    sources = {column.source for column in sink.columns if column.name in sink.primary_key}
    if sources and not sources & set(config.records.keys):
        keys, row = ", ".join(config.records.keys), ", ".join(sorted(sources))
        yield Mistake(
            "records.key",
            f"{keys} is not part of the row's primary key ({row}): records of one row may be applied "
            f"out of order, unless all records of a row have the same {keys}",
        )


def _partition_counts(config: Config, kafka: KafkaFacts) -> Iterator[Mistake]:
    counts = {topic: kafka.partitions(topic) for topic in config.kafka.topics}
    if len({count for count in counts.values() if count is not None}) > 1:
        each = ", ".join(f"{topic} has {count}" for topic, count in counts.items() if count)
        yield Mistake(
            "kafka.topics",
            f"the topics have different partition counts ({each}): a tenant's records may go to "
            "one shard from one topic and to another shard from another",
        )


def _idle_partitions(config: Config, kafka: KafkaFacts) -> Iterator[Mistake]:
    counts = [kafka.partitions(topic) for topic in config.kafka.topics]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return
    for shard in config.shards:
        beyond = [n for n in shard.partitions or () if n >= max(known)]
        if beyond:
            yield Mistake(
                f"shards[{shard.name}].partitions", f"no topic has partitions {shown(beyond)} yet"
            )


def _connections(shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    for server, instances in room(shards).items():
        on = [shard for shard in shards if shard.problem is None and shard.server == server]
        if instances < 2:
            wanted = sum(shard.config.connections for shard in on)
            yield Mistake(
                f"shards[{', '.join(shard.config.name for shard in on)}].connections",
                f"an instance opens up to {wanted} connections to {server}, which allows "
                f"{on[0].connections} and has {on[0].in_use} in use: enough for "
                f"{counted(instances, 'instance')} (raise max_connections, or lower connections)",
            )


def _rounded_sums(config: Config, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Warn of sums whose last digits depend on which records came in one batch."""
    for column in config.sink.columns:
        found = [
            shard.table.columns[column.name]
            for shard in shards
            if shard.table is not None and column.name in shard.table.columns
        ]
        rounded = [each.type for each in found if each.base in FLOATS]
        if column.merge == "add" and rounded:
            yield Mistake(
                f"sink.columns.{column.name}",
                f'is of type {rounded[0]}, whose sums are rounded at each step: with merge = "add" '
                "the last digits depend on which records come in one batch (numeric adds exactly)",
            )


def _commits(config: Config) -> Iterator[Mistake]:
    """Warn of shards whose acknowledged commits may be taken back."""
    for shard in config.shards:
        if shard.synchronous_commit in ("on", "remote_apply"):
            continue
        loss = {
            "off": "a crash of the server takes back what it acknowledged in the last 0.6 s or so",
            "local": "a failover takes back what no standby had, also where standbys are synchronous",
            "remote_write": "a crash of primary and standby together takes back what it acknowledged",
        }[shard.synchronous_commit]
        healed = (
            "the records are applied again from Kafka, while Kafka has them; until then rows are as "
            "they were before (docs/guarantees.md)"
            if config.pipeline.exactly_once
            else "with at-least-once delivery nobody notices, and the records are lost"
        )
        yield Mistake(
            f"shards[{shard.name}].synchronous_commit",
            f'"{shard.synchronous_commit}": {loss}; {healed}',
        )


def _types(config: Config, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Warn of columns whose type is not the same on every shard."""
    for column in config.sink.columns:
        types = {
            shard.config.name: shard.table.columns[column.name].type
            for shard in shards
            if shard.table is not None and column.name in shard.table.columns
        }
        if len(set(types.values())) > 1:
            each = ", ".join(f"{type} on {name}" for name, type in types.items())
            yield Mistake(f"sink.columns.{column.name}", f"has different types: {each}")
