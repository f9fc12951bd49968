"""The configuration: TOML in, frozen classes out, or one error that names every mistake in it.

``load`` reads each table by the fields of its class (see ``pipeline.settings``), then runs the
checks that need more than one value (``CHECKS``). A check runs only when the values it looks at
were read without a mistake, so that one slip is never reported twice.
"""

import fnmatch
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from attrs import field, frozen
from kafka import KafkaConsumer

from pipeline.settings import (
    COLUMN,
    COUNT,
    DSN,
    DURATION,
    HANDLER,
    LISTEN,
    PARTITIONS,
    PATH,
    PATHS,
    SERVERS,
    TEXT,
    TEXTS,
    ConfigError,
    Kind,
    Mistake,
    Reading,
    by,
    choice,
    describe,
    did_you_mean,
    fields_by_key,
    join,
    kind_of,
    read_toml,
)

__all__ = [
    "ColumnConfig",
    "Config",
    "ConfigError",
    "ErrorsConfig",
    "HttpConfig",
    "KafkaConfig",
    "LimitsConfig",
    "Mistake",
    "PipelineConfig",
    "RecordsConfig",
    "ShardConfig",
    "SinkConfig",
    "hide_password",
    "load",
]

Delivery = Literal["exactly-once", "at-least-once"]
Merge = Literal["last", "first", "add", "max", "min", "coalesce", "jsonb"]
Mode = Literal["insert", "upsert", "update"]
Tombstone = Literal["ignore", "delete"]
Scope = Literal["key", "batch"]

_WATERMARKS = "what it commits is what has been applied"
_DECODED = "records are decoded as [records] says"
OWNED_OPTIONS = {
    "auto_commit_interval_ms": _WATERMARKS,
    "client_id": "it is pipeline.name",
    "consumer_timeout_ms": "it polls without end",
    "default_offset_commit_callback": _WATERMARKS,
    "enable_auto_commit": _WATERMARKS,
    "key_deserializer": _DECODED,
    "partition_assignment_strategy": "it is cooperative-sticky",
    "ssl_context": "it is made from the other ssl options",
    "value_deserializer": _DECODED,
}
"""Options of kafka-python's consumer that the pipeline sets itself, and why."""

OBJECT_OPTIONS = {"kafka_client", "metric_reporters", "sasl_oauth_token_provider", "selector"}
"""Options that are Python objects: no file can hold them."""


def hide_password(dsn: str) -> str:
    """The DSN with ``***`` for its password, fit for logs."""
    shown = re.sub(r"(://[^:@/?#]*):.*@", r"\1:***@", dsn)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", shown)


def _default_owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@frozen
class PipelineConfig:
    """``[pipeline]``. The owner is what the ledger shows as the holder of a partition."""

    name: str = field(metadata=by(TEXT))
    delivery: Delivery = field(default="exactly-once", metadata=by(choice(*get_args(Delivery))))
    owner: str = field(factory=_default_owner, metadata=by(TEXT))


def _hide_secrets(options: Mapping[str, Any]) -> str:
    return repr({k: "***" if "password" in k else v for k, v in options.items()})


@frozen
class KafkaConfig:
    """``[kafka]``. The options are arguments of ``kafka.KafkaConsumer`` by their own names."""

    bootstrap_servers: tuple[str, ...] = field(metadata=by(SERVERS))
    topics: tuple[str, ...] = field(metadata=by(TEXTS))
    group_id: str = field(metadata=by(TEXT))
    options: Mapping[str, Any] = field(factory=dict, repr=_hide_secrets)


@frozen
class RecordsConfig:
    """``[records]``: how a record's value is decoded, and the paths of its keys and its tenant.

    Only `pipeline check` looks at the tenant: a record's partition is its producer's choice.
    """

    format: Literal["json"] = field(default="json", metadata=by(choice("json")))
    keys: tuple[str, ...] = field(default=("@key",), metadata=by(PATHS, key="key"))
    tenant: str | None = field(default=None, metadata=by(PATH))


@frozen
class ColumnConfig:
    """A column of the table: the path it is read from, and how a newer value meets an older one."""

    name: str
    source: str = field(metadata=by(PATH, key="from"))
    merge: Merge = field(default="last", metadata=by(choice(*get_args(Merge))))


@frozen
class SinkConfig:
    """``[sink]``: a table and its columns, or a handler; never both."""

    table: str | None = field(default=None, metadata=by(TEXT))
    mode: Mode = field(default="upsert", metadata=by(choice(*get_args(Mode))))
    primary_key: tuple[str, ...] = field(default=(), metadata=by(TEXTS))
    columns: tuple[ColumnConfig, ...] = field(default=(), metadata=by(COLUMN))
    tombstone: Tombstone = field(default="ignore", metadata=by(choice(*get_args(Tombstone))))
    handler: str | None = field(default=None, metadata=by(HANDLER))
    scope: Scope = field(default="key", metadata=by(choice(*get_args(Scope))))


@frozen
class ShardConfig:
    """One of ``[[shards]]``: a database, and the partitions that write to it (``None``: all)."""

    name: str = field(metadata=by(TEXT))
    dsn: str = field(metadata=by(DSN), repr=lambda dsn: repr(hide_password(dsn)))
    partitions: frozenset[int] | None = field(default=None, metadata=by(PARTITIONS))
    connections: int = field(default=4, metadata=by(COUNT))


@frozen
class LimitsConfig:
    """``[limits]``: counts of records, and durations in seconds."""

    max_buffered: int = field(default=20_000, metadata=by(COUNT))
    max_buffered_total: int = field(default=40_000, metadata=by(COUNT))
    max_batch: int = field(default=3_000, metadata=by(COUNT))
    drain_deadline: float = field(default=10.0, metadata=by(DURATION))
    statement_timeout: float = field(default=30.0, metadata=by(DURATION))
    lock_timeout: float = field(default=10.0, metadata=by(DURATION))


@frozen
class ErrorsConfig:
    """``[errors]``: where refused records go, and the back-off between retries, in seconds."""

    dead_letter_topic: str | None = field(default=None, metadata=by(TEXT))
    max_dead_letters_per_minute: int = field(default=600, metadata=by(COUNT))
    backoff_initial: float = field(default=0.1, metadata=by(DURATION))
    backoff_max: float = field(default=10.0, metadata=by(DURATION))


@frozen
class HttpConfig:
    """``[http]``: where metrics and the dashboard are served. Port 0 takes any free one."""

    host: str
    port: int


@frozen
class _Listen:
    """``[http]`` as it is written."""

    listen: tuple[str, int] = field(metadata=by(LISTEN))


@frozen
class Config:
    """A whole configuration; ``source`` is the name of the file it came from."""

    pipeline: PipelineConfig
    kafka: KafkaConfig
    records: RecordsConfig
    sink: SinkConfig
    shards: tuple[ShardConfig, ...]
    limits: LimitsConfig = field(factory=LimitsConfig)
    errors: ErrorsConfig = field(factory=ErrorsConfig)
    http: HttpConfig | None = None
    source: str = ""

    def shard_for(self, partition: int) -> ShardConfig:
        """The shard that a partition writes to; ``LookupError`` where there is none."""
        for shard in self.shards:
            if shard.partitions is None or partition in shard.partitions:
                return shard
        names = ", ".join(shard.name for shard in self.shards)
        raise LookupError(
            f"no shard covers partition {partition}: add it to the partitions of one of {names}"
        )


TABLES = ("pipeline", "kafka", "records", "sink", "shards", "limits", "errors", "http")


def load(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file; ``ConfigError`` carries every mistake found in it.

    ``${NAME}`` is taken from the environment of this process. Nothing is connected to.
    """
    document = read_toml(Path(path))
    reading = Reading(os.environ)
    config = _read(reading, document, str(path))
    broken = sorted(reading.broken)
    for check, keys in CHECKS:
        if not any(fnmatch.filter(broken, key) for key in keys):
            reading.mistakes.extend(check(config))
    if reading.mistakes:
        raise ConfigError(str(path), reading.mistakes)
    return config


def _read(reading: Reading, document: Mapping[str, Any], source: str) -> Config:
    reading.unknown(document, TABLES, "")
    tables = {name: reading.table(document, name, name) for name in TABLES if name != "shards"}
    pipeline = reading.build(PipelineConfig, tables["pipeline"], "pipeline")
    return Config(
        pipeline=pipeline,
        kafka=_read_kafka(reading, tables["kafka"], pipeline.name),
        records=reading.build(RecordsConfig, tables["records"], "records"),
        sink=_read_sink(reading, tables["sink"]),
        shards=_read_shards(reading, document.get("shards", [])),
        limits=reading.build(LimitsConfig, tables["limits"], "limits"),
        errors=reading.build(ErrorsConfig, tables["errors"], "errors"),
        http=_read_http(reading, tables["http"]) if "http" in document else None,
        source=source,
    )


def _read_kafka(reading: Reading, values: Mapping[str, Any], name: str) -> KafkaConfig:
    """The table's own keys, and kafka-python's options: whatever is neither is a mistake."""
    own = fields_by_key(KafkaConfig).keys()
    others = [key for key in values if key not in own]
    known = own | set(KafkaConsumer.DEFAULT_CONFIG)
    reading.unknown(others, sorted(known), "kafka")
    options = {}
    for key in others:
        place = join("kafka", key)
        if key in OWNED_OPTIONS:
            reading.wrong(place, f"the pipeline sets this itself ({OWNED_OPTIONS[key]})")
        elif key in OBJECT_OPTIONS:
            reading.wrong(place, "takes a Python object, which a file can't hold")
        elif key in known:
            default = KafkaConsumer.DEFAULT_CONFIG[key]
            options[key] = reading.value(_option_kind(default), values[key], place, default)
    given: dict[str, Any] = {"options": MappingProxyType(options)}
    if "group_id" not in values:
        given["group_id"] = name
    table = {key: value for key, value in values.items() if key in own}
    return reading.build(KafkaConfig, table, "kafka", given)


def _option_kind(default: Any) -> Kind:
    """What an option takes, judged by its default. Messages don't show values: some are secret."""
    by_type = {
        bool: ("true or false", (bool,)),
        int: ("a whole number", (int,)),
        float: ("a number", (int, float)),
        str: ("a string", (str,)),
        list: ("a list", (list,)),
    }
    anything = ("a string, a number, a list, true or false", (str, int, float, list, bool))
    expects, types = by_type.get(type(default), anything)

    def parse(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError(f"expected {expects}, not {kind_of(value)}")
        return value

    return Kind(expects, parse)


def _read_sink(reading: Reading, values: Mapping[str, Any]) -> SinkConfig:
    """The sink; settings that belong to the sort not chosen (table, handler) are mistakes."""
    columns = tuple(
        _read_column(reading, name, value, join("sink.columns", name))
        for name, value in reading.table(values, "columns", "sink.columns").items()
    )
    if "handler" in values:
        for key in ("table", "mode", "primary_key", "columns", "tombstone"):
            if key in values:
                reading.wrong(f"sink.{key}", "has no use beside sink.handler: leave one out")
    elif "scope" in values:
        reading.wrong("sink.scope", "has no use without sink.handler: leave it out")
    return reading.build(SinkConfig, values, "sink", {"columns": columns})


def _read_column(reading: Reading, name: str, value: Any, path: str) -> ColumnConfig:
    """``column = "path"`` or ``column = { from = "path", merge = "max" }``."""
    if isinstance(value, dict):
        return reading.build(ColumnConfig, value, path, {"name": name})
    return ColumnConfig(name=name, source=reading.value(COLUMN, value, path))


def _read_shards(reading: Reading, values: Any) -> tuple[ShardConfig, ...]:
    """Each shard; in messages it goes by its name, or by its place (from 0) if it has none."""
    if not isinstance(values, list):
        reading.wrong("shards", f"expected [[shards]], a list of tables, not {describe(values)}")
        return ()
    shards = []
    for place, value in enumerate(values):
        if isinstance(value, dict):
            name = value.get("name")
            label = name if isinstance(name, str) and name else place
            shards.append(reading.build(ShardConfig, value, f"shards[{label}]"))
        else:
            reading.wrong(f"shards[{place}]", f"expected a table, not {describe(value)}")
    return tuple(shards)


def _read_http(reading: Reading, values: Mapping[str, Any]) -> HttpConfig:
    listen = reading.build(_Listen, values, "http").listen or ("", 0)
    return HttpConfig(*listen)


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
            yield Mistake(key, f'"{column.merge}" can\'t be: mode "insert" merges nothing')
        elif column.name in sink.primary_key:
            yield Mistake(key, f'"{column.merge}" can\'t be: a primary key has one value, "last"')


def _check_tombstones(config: Config) -> Iterator[Mistake]:
    """A tombstone has no value, so what it deletes and what orders it must be elsewhere."""
    from pipeline.records import Path as RecordPath

    if config.sink.tombstone != "delete":
        return
    needed = 'tombstone "delete" needs one of @key, @key.PATH, @header:NAME'
    for column in config.sink.columns:
        if column.name not in config.sink.primary_key or not column.source:
            continue
        if RecordPath.parse(column.source).base not in ("@key", "@header"):
            why = f"{describe(column.source)} does not say which row a record without a value means"
            yield Mistake(join("sink.columns", column.name), f"{why}: {needed}")
    for source in config.records.keys:
        if RecordPath.parse(source).in_value:
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
            why = "missing: only a shard that is the only one may leave them out"
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
    """A drain happens between two polls; Kafka takes the partitions away if that takes too long."""
    option = "max_poll_interval_ms"
    millis = config.kafka.options.get(option, KafkaConsumer.DEFAULT_CONFIG[option])
    if config.limits.drain_deadline * 1000 >= millis:
        yield Mistake(
            "limits.drain_deadline",
            f"{config.limits.drain_deadline:g}s is too long: expected less than "
            f"kafka.{option} ({millis / 1000:g}s)",
        )


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
    (_check_batch, ("limits.max_batch", "limits.max_buffered")),
    (_check_backoff, ("errors.backoff_initial", "errors.backoff_max")),
    (_check_dead_letters, ("errors.dead_letter_topic", "kafka", "kafka.topics")),
)
"""Each check, with the keys (patterns of fnmatch) whose mistakes make it moot."""
