"""The configuration: TOML in, frozen classes out, or one error that names every mistake in it.

``load`` reads each table by the fields of its class (see ``pipeline.settings``), then runs the
checks that need more than one value (``pipeline.coherence``). A check runs only when the values it looks at
were read without a mistake, so that one slip is never reported twice.
"""

import fnmatch
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from attrs import field, frozen
from kafka import KafkaConsumer

from pipeline.coherence import CHECKS
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
    connections: int = field(default=3, metadata=by(COUNT))


@frozen
class LimitsConfig:
    """``[limits]``: counts of records or of bytes, and durations in seconds."""

    max_buffered: int = field(default=20_000, metadata=by(COUNT))
    max_buffered_total: int = field(default=40_000, metadata=by(COUNT))
    max_buffered_bytes: int = field(default=64 * 1024**2, metadata=by(COUNT))
    max_batch: int = field(default=5_000, metadata=by(COUNT))
    max_batch_bytes: int = field(default=4 * 1024**2, metadata=by(COUNT))
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
