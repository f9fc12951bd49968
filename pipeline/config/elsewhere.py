"""Where a key belongs that was written in the wrong table."""

from __future__ import annotations

from pipeline.config.kafka_options import DEFAULTS
from pipeline.config.model import (
    ErrorsConfig,
    KafkaConfig,
    LimitsConfig,
    PipelineConfig,
    RecordsConfig,
    ShardConfig,
    SinkConfig,
)
from pipeline.config.reading import fields_by_key

TABLES = {
    "pipeline": PipelineConfig,
    "kafka": KafkaConfig,
    "records": RecordsConfig,
    "sink": SinkConfig,
    "limits": LimitsConfig,
    "errors": ErrorsConfig,
    "shards": ShardConfig,
}


def table_of(key: str) -> str | None:
    """Return the table that a key belongs to; None if there is none, or more than one."""
    found = [name for name, cls in TABLES.items() if key in fields_by_key(cls)]
    if key in DEFAULTS and "kafka" not in found:
        found.append("kafka")
    return found[0] if len(found) == 1 else None
