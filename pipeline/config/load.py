"""Loading the configuration: TOML in, frozen classes out, or one error that names every mistake.

``load`` reads each table by the fields of its class (see `pipeline.config.reading`), then runs the
checks that need more than one value (`pipeline.config.coherence`). A check runs only when the values
it looks at were read without a mistake, so that one slip is never reported twice.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import field, frozen
from kafka import KafkaConsumer

from pipeline.config.coherence import CHECKS
from pipeline.config.kinds import COLUMN, LISTEN, Kind, by, describe, kind_of
from pipeline.config.model import (
    ColumnConfig,
    Config,
    ErrorsConfig,
    HttpConfig,
    KafkaConfig,
    LimitsConfig,
    PipelineConfig,
    RecordsConfig,
    ShardConfig,
    SinkConfig,
)
from pipeline.config.reading import ConfigError, Reading, fields_by_key, join, read_toml

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


@frozen
class _Listen:
    """``[http]`` as it is written."""

    listen: tuple[str, int] = field(metadata=by(LISTEN))


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
