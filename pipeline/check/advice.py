"""Pure functions from a configuration and the facts to warnings: it runs, but a person should know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kafka.record.util import crc32c_c

from pipeline.check.brokers import KafkaFacts
from pipeline.check.databases import ShardFacts, room
from pipeline.config.kinds import show_partitions
from pipeline.config.mistakes import Mistake
from pipeline.config.model import Config
from pipeline.operate.console import counted, duration
from pipeline.postgres.sink.merges import FLOATS


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
    yield from _unlogged(config, shards)
    yield from _commits(config)
    yield from _waiting(config, kafka)
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


def _waiting(config: Config, kafka: KafkaFacts) -> Iterator[Mistake]:
    """Warn where Kafka may remove what waits behind a record that can't be applied."""
    key = "errors.on_reject" if config.errors.on_reject == "hold-key" else "errors.retry"
    longest = max(config.errors.retry.values(), default=0.0)
    for topic, settings in kafka.settings.items():
        policy = settings.get("cleanup.policy", "")
        kept = int(settings.get("retention.ms", "-1")) / 1000
        if "compact" in policy:
            yield Mistake(
                key,
                f"topic {topic} is compacted (cleanup.policy={policy}): Kafka removes older records of "
                "a key there, also those that wait behind one that can't be applied",
            )
        elif 0 <= kept < longest:
            yield Mistake(
                "errors.retry",
                f"topic {topic} keeps records for {duration(kept)} (retention.ms), which is shorter "
                f"than {duration(longest)}: what waits longer is lost",
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
                f"shards[{shard.name}].partitions",
                f"no topic has partitions {show_partitions(beyond)} yet",
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


def _unlogged(config: Config, shards: Sequence[ShardFacts]) -> Iterator[Mistake]:
    """Warn of tables that a crash or a failover empties, while the ledger keeps what was applied."""
    for shard in shards:
        if shard.table is not None and shard.table.unlogged:
            yield Mistake(
                "sink.table",
                f"{config.sink.table} is unlogged (shard {shard.config.name}): a crash of the server, "
                "or a failover, leaves it empty, and its records are not applied again: "
                f"alter table {config.sink.table} set logged",
            )


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
