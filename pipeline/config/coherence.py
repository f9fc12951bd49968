"""What must hold between the values of a configuration, beyond what each of them must be.

The second of the checks of a configuration (docs/design/overview.md has all four). Each function here
is one check and yields the mistakes that it finds; `CHECKS` lists them. A check runs only if the values
that it looks at were read without a mistake (see `pipeline.config.load`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from pipeline.config.deduplication import check_deduplication
from pipeline.config.ingest import (
    check_ingest,
    check_ingest_receipts,
    check_ingest_tls,
    check_ingest_topic,
)
from pipeline.config.kafka_options import DEFAULTS
from pipeline.config.mistakes import Mistake, describe, did_you_mean, join
from pipeline.config.model import COMMIT_SECONDS, Config
from pipeline.config.retries import check_waiting
from pipeline.config.tls_files import dsn_file_mistakes, tls_mistakes
from pipeline.records.path import Path


def _check_target(config: Config) -> Iterator[Mistake]:
    sink = config.sink
    if sink.handler is None and sink.table is None and not sink.columns:
        yield Mistake("sink", "expected either table and [sink.columns], or handler")
    elif sink.handler is None and sink.table is None:
        yield Mistake("sink.table", "missing: expected the name of the table that is written to")
    elif sink.handler is None and not sink.columns:
        yield Mistake("sink.columns", 'missing: expected at least one column = "path in the value"')


def _check_primary_key(config: Config) -> Iterator[Mistake]:
    sink = config.sink
    if sink.columns and not sink.primary_key and sink.handler is None:
        if sink.mode != "insert":
            yield Mistake("sink.primary_key", f'missing: mode "{sink.mode}" needs it')
        elif sink.tombstone == "delete":
            yield Mistake("sink.primary_key", 'missing: tombstone "delete" needs it')
    names = [column.name for column in sink.columns]
    for name in sink.primary_key if names else ():
        if name not in names:
            hint = did_you_mean(name, names)
            yield Mistake("sink.primary_key", f"{describe(name)} is not in [sink.columns]{hint}")


def _check_merges(config: Config) -> Iterator[Mistake]:
    sink = config.sink
    for column in sink.columns:
        key = join("sink.columns", column.name) + ".merge"
        if column.merge == "last":
            continue
        if sink.mode == "insert":
            yield Mistake(key, f'"{column.merge}" has no effect with mode "insert": leave it out')
        elif column.name in sink.primary_key:
            why = "has no effect on a primary key, which never changes: leave it out"
            yield Mistake(key, f'"{column.merge}" {why}')


def _check_tombstones(config: Config) -> Iterator[Mistake]:
    """A tombstone has no value: what says which row it deletes, and its order, must be elsewhere."""
    if config.sink.tombstone != "delete":
        return
    needed = 'tombstone "delete" needs one of @key, @key.PATH, @header:NAME'
    for column in config.sink.columns:
        if column.name not in config.sink.primary_key or not column.source:
            continue
        if Path.parse(column.source).base not in ("@key", "@header"):
            why = f"{describe(column.source)} does not say which row a record without a value means"
            yield Mistake(join("sink.columns", column.name), f"{why}: {needed}")
    for source in config.records.keys:
        if Path.parse(source).in_value:
            why = f"{describe(source)} does not keep a record without a value in order"
            yield Mistake("records.key", f"{why}: {needed}")


def _check_shard_names(config: Config) -> Iterator[Mistake]:
    names = [shard.name for shard in config.shards]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield Mistake("shards", f"{names.count(name)} shards have the name {describe(name)}")


def _check_partitions(config: Config) -> Iterator[Mistake]:
    """A partition has exactly one shard."""
    shards = config.shards
    if not shards:
        yield Mistake("shards", "missing: expected at least one [[shards]] with a name and a dsn")
    for shard in shards if len(shards) > 1 else ():
        if shard.partitions is None:
            why = "missing: only a single shard may leave them out"
            yield Mistake(f"shards[{shard.name}].partitions", why)
    for one, other in combinations(shards, 2):
        if both := (one.partitions or frozenset()) & (other.partitions or frozenset()):
            noun = "partitions" if len(both) > 1 else "partition"
            shown = ", ".join(map(str, sorted(both)[:5])) + (", …" if len(both) > 5 else "")
            yield Mistake(
                f"shards[{other.name}].partitions",
                f"{noun} {shown} can have one shard only, not both {one.name} and {other.name}",
            )


def _check_drain_deadline(config: Config) -> Iterator[Mistake]:
    """A hand-over holds up the rebalance: the drain, then a commit.

    Kafka takes the partitions away from a member that takes longer than `max_poll_interval_ms`.
    """
    option = "max_poll_interval_ms"
    allowed = config.kafka.options.get(option, DEFAULTS[option]) / 1000 - COMMIT_SECONDS
    if config.limits.drain_deadline >= allowed:
        yield Mistake(
            "limits.drain_deadline",
            f"{config.limits.drain_deadline:g}s is too long: expected less than {allowed:g}s, which is "
            f"kafka.{option} without the {COMMIT_SECONDS:g}s that the commit after it may take",
        )


def _check_security(config: Config) -> Iterator[Mistake]:
    """Options of TLS and SASL go with a protocol that uses them, and SASL with a user."""
    options = config.kafka.options
    protocol = options.get("security_protocol", DEFAULTS["security_protocol"])
    for prefix, word in (("ssl_", "SSL"), ("sasl_", "SASL_")):
        for key in options if word not in protocol else ():
            if key.startswith(prefix):
                wanted = f'kafka.security_protocol "{protocol}" does not use it'
                yield Mistake(f"kafka.{key}", f"has no effect: {wanted}")
    if "SSL" in protocol:
        yield from tls_mistakes(options)
    if "SASL_" not in protocol:
        return
    mechanism = options.get("sasl_mechanism")
    if mechanism is None:
        yield Mistake("kafka.sasl_mechanism", f'missing: security_protocol "{protocol}" needs it')
    elif mechanism == "PLAIN" or mechanism.startswith("SCRAM"):
        for key in ("sasl_plain_username", "sasl_plain_password"):
            if not options.get(key):
                yield Mistake(f"kafka.{key}", f'missing: sasl_mechanism "{mechanism}" needs it')


def _check_dsn_files(config: Config) -> Iterator[Mistake]:
    for shard in config.shards:
        yield from dsn_file_mistakes(f"shards[{shard.name}]", shard.dsn, shard.passfile)


def _check_batch(config: Config) -> Iterator[Mistake]:
    batch, buffered = config.limits.max_batch, config.limits.max_buffered
    if batch > buffered:
        why = f"{batch} is too many: expected at most limits.max_buffered ({buffered})"
        yield Mistake("limits.max_batch", why)


def _check_backoff(config: Config) -> Iterator[Mistake]:
    initial, highest = config.errors.backoff_initial, config.errors.backoff_max
    if initial > highest:
        why = f"{initial:g}s is too long: expected at most errors.backoff_max ({highest:g}s)"
        yield Mistake("errors.backoff_initial", why)


def _check_dead_letters(config: Config) -> Iterator[Mistake]:
    topic = config.errors.dead_letter_topic
    if topic in config.kafka.topics:
        why = f"{describe(topic)} is one of kafka.topics: dead letters would be read again"
        yield Mistake("errors.dead_letter_topic", why)


CHECKS: tuple[tuple[Callable[[Config], Iterator[Mistake]], tuple[str, ...]], ...] = (
    (_check_target, ("sink", "sink.table", "sink.columns", "sink.handler")),
    (_check_primary_key, ("sink.mode", "sink.primary_key", "sink.tombstone", "sink.columns")),
    (_check_merges, ("sink.mode", "sink.primary_key")),
    (_check_tombstones, ("sink.primary_key", "sink.tombstone", "records.key")),
    (_check_shard_names, ("shards[[]*[]].name",)),
    (_check_partitions, ("shards", "shards[[]*[]]", "shards[[]*[]].partitions")),
    (
        _check_drain_deadline,
        ("kafka", "kafka.max_poll_interval_ms", "limits", "limits.drain_deadline"),
    ),
    (_check_security, ("kafka", "kafka.s*")),
    (_check_dsn_files, ("shards", "shards[[]*[]]", "shards[[]*[]].*")),
    (_check_batch, ("limits.max_batch", "limits.max_buffered")),
    (_check_backoff, ("errors.backoff_initial", "errors.backoff_max")),
    (check_ingest, ("ingest", "ingest.key", "ingest.tenant", "ingest.idempotency_key", "records*")),
    (check_ingest_topic, ("ingest", "ingest.topic", "kafka", "kafka.topics")),
    (check_ingest_tls, ("ingest", "ingest.tls_*")),
    (check_ingest_receipts, ("ingest", "ingest.receipts", "pipeline.delivery")),
    (
        check_deduplication,
        ("records.idempotency_key", "records.dedupe_for", "pipeline", "pipeline.delivery"),
    ),
    (_check_dead_letters, ("errors.dead_letter_topic", "kafka", "kafka.topics")),
    (check_waiting, ("errors.*", "pipeline.delivery", "records*", "sink*")),
)
"""Each check, with the keys (patterns of fnmatch) whose mistakes make it pointless."""
