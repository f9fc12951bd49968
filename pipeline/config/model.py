"""The configuration, as frozen classes; next to each field how its value is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, Literal, get_args

from attrs import field, frozen

from pipeline.config.environment import expand
from pipeline.config.kinds import (
    COLUMN,
    COUNT,
    DSN,
    DURATION,
    HANDLER,
    LISTEN,
    ORIGINS,
    PARTITIONS,
    PATH,
    PATHS,
    RATE,
    SERVERS,
    SWITCH,
    TEXT,
    TEXTS,
    TOKENS,
    TOPIC,
    TOPICS,
    by,
    choice,
)
from pipeline.config.secrets import hide_password, hide_passwords

Delivery = Literal["exactly-once", "at-least-once"]
Merge = Literal["last", "first", "add", "max", "min", "coalesce", "jsonb"]
Mode = Literal["insert", "upsert", "update"]
Tombstone = Literal["ignore", "delete"]
Scope = Literal["key", "batch"]
Unit = Literal["s", "ms", "us", "ns", "days"]
Encoding = Literal["hex", "base64"]
Missing = Literal["keep", "null", "reject"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json", "journald"]
Pooler = Literal["auto", "transaction", "none"]
SynchronousCommit = Literal["on", "remote_apply", "remote_write", "local", "off"]


def _default_owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@frozen
class PipelineConfig:
    """``[pipeline]``. The owner is how the ledger names this instance."""

    name: str = field(metadata=by(TEXT))
    delivery: Delivery = field(default="exactly-once", metadata=by(choice(*get_args(Delivery))))
    owner: str = field(factory=_default_owner, metadata=by(TEXT))

    @property
    def exactly_once(self) -> bool:
        """Whether each shard's ledger says what is applied; if not, Kafka's commit says it."""
        return self.delivery == "exactly-once"


@frozen
class KafkaConfig:
    """``[kafka]``. The options are arguments of ``kafka.KafkaConsumer`` by their own names."""

    bootstrap_servers: tuple[str, ...] = field(metadata=by(SERVERS))
    topics: tuple[str, ...] = field(metadata=by(TOPICS))
    group_id: str = field(metadata=by(TEXT))
    options: Mapping[str, Any] = field(
        factory=dict, repr=lambda options: repr(hide_passwords(options))
    )


@frozen
class RecordsConfig:
    """``[records]``: how a record's value is decoded, and the paths of its keys and its tenant.

    A tenant's records can be held, and idempotency keys are its own; its partition is their producer's
    choice, which `pipeline check` looks at. ``dedupe_for``: seconds for which a key is applied once.
    """

    format: Literal["json"] = field(default="json", metadata=by(choice("json")))
    keys: tuple[str, ...] = field(default=("@key",), metadata=by(PATHS, key="key"))
    tenant: str | None = field(default=None, metadata=by(PATH))
    idempotency_key: str | None = field(default=None, metadata=by(PATH))
    dedupe_for: float | None = field(default=None, metadata=by(DURATION))


@frozen
class ColumnConfig:
    """A column of the table: the path it is read from, and how a newer value meets an older one.

    The unit says what numbers count in a column of times; the encoding, how bytes are written; missing,
    what a record without the field does (None: what the sink says).
    """

    name: str
    source: str = field(metadata=by(PATH, key="from"))
    merge: Merge = field(default="last", metadata=by(choice(*get_args(Merge))))
    unit: Unit | None = field(default=None, metadata=by(choice(*get_args(Unit))))
    encoding: Encoding | None = field(default=None, metadata=by(choice(*get_args(Encoding))))
    missing: Missing | None = field(default=None, metadata=by(choice(*get_args(Missing))))


@frozen
class SinkConfig:
    """``[sink]``: a table and its columns, or a handler; never both."""

    table: str | None = field(default=None, metadata=by(TEXT))
    mode: Mode = field(default="upsert", metadata=by(choice(*get_args(Mode))))
    primary_key: tuple[str, ...] = field(default=(), metadata=by(TEXTS))
    columns: tuple[ColumnConfig, ...] = field(default=(), metadata=by(COLUMN))
    tombstone: Tombstone = field(default="ignore", metadata=by(choice(*get_args(Tombstone))))
    missing: Missing = field(default="keep", metadata=by(choice(*get_args(Missing))))
    handler: str | None = field(default=None, metadata=by(HANDLER))
    scope: Scope = field(default="key", metadata=by(choice(*get_args(Scope))))


@frozen
class ShardConfig:
    """One of ``[[shards]]``: a database, and the partitions that write to it (None: all).

    ``dsn`` is the address as it was when the configuration was read. If it comes from a file, ``written``
    is how it stands there, with the references that `read_dsn` follows again.
    """

    name: str = field(metadata=by(TEXT))
    dsn: str = field(metadata=by(DSN), repr=lambda dsn: repr(hide_password(dsn)))
    partitions: frozenset[int] | None = field(default=None, metadata=by(PARTITIONS))
    connections: int = field(default=3, metadata=by(COUNT))
    passfile: str | None = field(default=None, metadata=by(TEXT))
    pooler: Pooler = field(default="auto", metadata=by(choice(*get_args(Pooler))))
    synchronous_commit: SynchronousCommit = field(
        default="on", metadata=by(choice(*get_args(SynchronousCommit)))
    )
    search_path: str | None = field(default=None, metadata=by(TEXT))
    written: str | None = field(default=None, repr=False)

    def read_dsn(self) -> str:
        """Return the address as it is now: a file that holds it, or its password, may have changed.

        Raises:
            ValueError: a file can't be read, or holds no DSN; the message shows none of it.
        """
        if self.written is None:
            return self.dsn
        return str(DSN.parse(expand(self.written, os.environ)))


COMMIT_SECONDS = 5.0
"""How long Kafka may take to answer a commit of offsets; a hand-over waits for one after its drain."""


@frozen
class LimitsConfig:
    """``[limits]``: counts of records or of bytes, and durations in seconds."""

    max_buffered: int = field(default=20_000, metadata=by(COUNT))
    max_buffered_total: int = field(default=40_000, metadata=by(COUNT))
    max_buffered_bytes: int = field(default=64 * 1024**2, metadata=by(COUNT))
    max_buffered_per_key: int | None = field(default=None, metadata=by(COUNT))
    """None: a quarter of what a partition holds."""
    max_buffered_per_tenant: int | None = field(default=None, metadata=by(COUNT))
    """The same, where records have several ordering keys."""
    max_lanes: int = field(default=64, metadata=by(COUNT))
    max_batch: int = field(default=5_000, metadata=by(COUNT))
    max_batch_bytes: int = field(default=4 * 1024**2, metadata=by(COUNT))
    drain_deadline: float = field(default=10.0, metadata=by(DURATION))
    statement_timeout: float = field(default=30.0, metadata=by(DURATION))
    lock_timeout: float = field(default=10.0, metadata=by(DURATION))
    adaptive: bool = field(default=True, metadata=by(SWITCH))
    """Whether the limit of a shard follows what its transactions take."""


@frozen
class ErrorsConfig:
    """``[errors]``: where refused records go, and the back-off between retries, in seconds."""

    dead_letter_topic: str | None = field(default=None, metadata=by(TOPIC))
    on_reject: str = field(default="dead-letter", metadata=by(choice("dead-letter", "hold-key")))
    """What becomes of a record that can't be applied: it is passed over, or its key waits."""
    retry: Mapping[str, float] = field(factory=dict)
    """For how many seconds a record is tried again first, by the error: see `pipeline.config.retries`."""
    max_dead_letters_per_minute: int = field(default=600, metadata=by(COUNT))
    backoff_initial: float = field(default=0.1, metadata=by(DURATION))
    backoff_max: float = field(default=10.0, metadata=by(DURATION))
    details: bool = field(default=False, metadata=by(SWITCH))
    """Whether Postgres's messages about a record, which may quote its values, are passed on whole."""

    @property
    def waits(self) -> bool:
        """Whether a record that can't be applied may wait, with what comes after it."""
        return self.on_reject == "hold-key" or bool(self.retry)


@frozen
class HttpConfig:
    """``[http]``: where metrics and the dashboard are served. Port 0 takes any free one.

    The tokens open the dashboard; instances ask each other with the first. ``advertise`` is the address
    that others reach this one at; None: the one that is listened on.
    """

    host: str
    port: int
    tokens: tuple[str, ...] = field(
        default=(), metadata={"key": "token"}, repr=lambda tokens: f"<{len(tokens)} tokens>"
    )
    advertise: tuple[str, int] | None = None


@frozen
class IngestConfig:
    """``[ingest]``: the HTTP endpoint that writes records to Kafka.

    What is left out of topic, key and tenant is taken from [kafka] and [records]: see
    `pipeline.config.ingest`. The rate is in records per second. The names of files are as written.
    """

    listen: tuple[str, int] = field(metadata=by(LISTEN))
    topic: str | None = field(default=None, metadata=by(TOPIC))
    key: str | None = field(default=None, metadata=by(PATH))
    tenant: str | None = field(default=None, metadata=by(PATH))
    idempotency_key: str | None = field(default=None, metadata=by(PATH))
    schema: str | None = field(default=None, metadata=by(TEXT))
    max_body_bytes: int = field(default=1024**2, metadata=by(COUNT))
    max_pending: int = field(default=20_000, metadata=by(COUNT))
    rate_per_tenant: float | None = field(default=None, metadata=by(RATE))
    tokens: tuple[str, ...] = field(
        default=(), metadata=by(TOKENS), repr=lambda tokens: f"<{len(tokens)} tokens>"
    )
    tls_cert: str | None = field(default=None, metadata=by(TEXT))
    tls_key: str | None = field(default=None, metadata=by(TEXT))
    cors_origins: tuple[str, ...] = field(default=(), metadata=by(ORIGINS))
    receipts: bool = field(default=False, metadata=by(SWITCH))
    """Whether it is told what became of records: the endpoint reads the ledgers then."""
    status: tuple[str, int] | None = field(default=None, metadata=by(LISTEN))
    """Where the endpoint's own metrics and dashboard are served; None: nowhere."""


@frozen
class LogConfig:
    """``[log]``: what is logged, and in which form. The command line's ``--log-level`` goes before."""

    level: LogLevel = field(default="info", metadata=by(choice(*get_args(LogLevel))))
    format: LogFormat = field(default="auto", metadata=by(choice(*get_args(LogFormat))))


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
    ingest: IngestConfig | None = None
    log: LogConfig = field(factory=LogConfig)
    source: str = ""

    def shard_for(self, partition: int) -> ShardConfig:
        """Return the shard that a partition writes to.

        Raises:
            LookupError: no shard covers the partition; the message says what to do.
        """
        for shard in self.shards:
            if shard.partitions is None or partition in shard.partitions:
                return shard
        names = ", ".join(shard.name for shard in self.shards)
        raise LookupError(
            f"no shard covers partition {partition}: add it to the partitions of one of {names}"
        )
