"""Loading the configuration: TOML in, frozen classes out, or one error that names every mistake.

`load` reads each table by the fields of its class (`pipeline.config.reading`), then runs the checks
that need more than one value (`pipeline.config.coherence`). A check runs only if the values that it
looks at were read without a mistake, so that one slip is never told twice.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from pipeline.config.coherence import CHECKS
from pipeline.config.elsewhere import table_of
from pipeline.config.environment import from_file
from pipeline.config.kafka_options import DEFAULTS, read_options
from pipeline.config.kinds import COLUMN, DSN, LISTEN, TOKENS, by
from pipeline.config.mistakes import ConfigError, describe, join
from pipeline.config.model import (
    ColumnConfig,
    Config,
    ErrorsConfig,
    HttpConfig,
    IngestConfig,
    KafkaConfig,
    LimitsConfig,
    LogConfig,
    PipelineConfig,
    RecordsConfig,
    ShardConfig,
    SinkConfig,
)
from pipeline.config.reading import Reading, fields_by_key
from pipeline.config.retries import read_retry
from pipeline.config.toml import read_toml


@frozen
class _Listen:
    """``[http]`` as it is written."""

    listen: tuple[str, int] = field(metadata=by(LISTEN))
    token: tuple[str, ...] = field(default=(), metadata=by(TOKENS))
    advertise: tuple[str, int] | None = field(default=None, metadata=by(LISTEN))


TABLES = (
    "pipeline",
    "kafka",
    "records",
    "sink",
    "shards",
    "limits",
    "errors",
    "http",
    "ingest",
    "log",
)


def load(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file; ``-`` is standard input. Nothing is connected to.

    ``${NAME}`` is taken from the environment of this process.

    Raises:
        ConfigError: the file can't be used; it carries every mistake that was found.
    """
    source, document = read_toml(os.fspath(path))
    reading = Reading(os.environ, table_of)
    config = _read(reading, document, source)
    broken = sorted(reading.broken)
    for check, keys in CHECKS:
        if not any(fnmatch.filter(broken, key) for key in keys):
            reading.mistakes.extend(check(config))
    if reading.mistakes:
        raise ConfigError(source, reading.mistakes)
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
        errors=_read_errors(reading, tables["errors"]),
        http=_read_http(reading, tables["http"]) if "http" in document else None,
        ingest=reading.build(IngestConfig, tables["ingest"], "ingest")
        if "ingest" in document
        else None,
        log=reading.build(LogConfig, tables["log"], "log"),
        source=source,
    )


def _read_kafka(reading: Reading, values: Mapping[str, Any], name: str) -> KafkaConfig:
    """Read the table's own keys, and kafka-python's options; what is neither is a mistake."""
    own = fields_by_key(KafkaConfig).keys()
    others = {key: value for key, value in values.items() if key not in own}
    reading.unknown(others, sorted(own | DEFAULTS.keys()), "kafka")
    given: dict[str, Any] = {"options": read_options(reading, others)}
    if "group_id" not in values:
        given["group_id"] = name
    table = {key: value for key, value in values.items() if key in own}
    return reading.build(KafkaConfig, table, "kafka", given)


def _read_sink(reading: Reading, values: Mapping[str, Any]) -> SinkConfig:
    """Read the sink; settings of a table beside a handler, or the reverse, are mistakes."""
    columns = tuple(
        _read_column(reading, name, value, join("sink.columns", name))
        for name, value in reading.table(values, "columns", "sink.columns").items()
    )
    if "handler" in values:
        for key in ("table", "mode", "primary_key", "columns", "tombstone", "missing"):
            if key in values:
                reading.wrong(f"sink.{key}", "has no use beside sink.handler: leave one out")
    elif "scope" in values:
        reading.wrong("sink.scope", "has no use without sink.handler: leave it out")
    return reading.build(SinkConfig, values, "sink", {"columns": columns})


def _read_column(reading: Reading, name: str, value: Any, path: str) -> ColumnConfig:
    """Read ``column = "path"`` or ``column = { from = "path", merge = "max" }``."""
    if isinstance(value, dict):
        return reading.build(ColumnConfig, value, path, {"name": name})
    return ColumnConfig(name=name, source=reading.value(COLUMN, value, path))


def _read_shards(reading: Reading, values: Any) -> tuple[ShardConfig, ...]:
    """Read each shard; messages call it by its name, or by its place (from 0) if it has none."""
    if not isinstance(values, list):
        reading.wrong("shards", f"expected [[shards]], a list of tables, not {describe(values)}")
        return ()
    shards = []
    for place, value in enumerate(values):
        if isinstance(value, dict):
            name = value.get("name")
            label = name if isinstance(name, str) and name else place
            shards.append(_read_shard(reading, value, f"shards[{label}]"))
        else:
            reading.wrong(f"shards[{place}]", f"expected a table, not {describe(value)}")
    return tuple(shards)


def _read_shard(reading: Reading, values: Mapping[str, Any], path: str) -> ShardConfig:
    """Read a shard. ``dsn_file = "PATH"`` is the same as ``dsn = "${file:PATH}"``."""
    table, given = dict(values), {}
    file = table.pop("dsn_file", None)
    written = table.get("dsn")
    if "dsn" in table and file is not None:
        reading.wrong(f"{path}.dsn_file", "has no use beside dsn: leave one out")
    elif isinstance(file, str) and file.strip():
        written = f"${{file:{file}}}"
        given["dsn"] = reading.value(DSN, written, f"{path}.dsn_file")
    elif file is not None:
        reading.wrong(f"{path}.dsn_file", f"expected the path of a file, not {describe(file)}")
        given["dsn"] = None
    given["written"] = written if from_file(written) else None
    return reading.build(ShardConfig, table, path, given)


def _read_errors(reading: Reading, values: Mapping[str, Any]) -> ErrorsConfig:
    table = dict(values)
    retry = read_retry(reading, table.pop("retry", {}))
    return reading.build(ErrorsConfig, table, "errors", {"retry": retry})


def _read_http(reading: Reading, values: Mapping[str, Any]) -> HttpConfig:
    read = reading.build(_Listen, values, "http")
    return HttpConfig(*(read.listen or ("", 0)), read.token or (), read.advertise)
