"""Debezium's JDBC sink on Kafka Connect: the files that configure it.

It needs values that carry their schema. A sink that upserts can't add, so the values of its topic hold
running totals as `session_count`: the resulting rows are the same as everyone's, and the harness
observes its progress in the same way.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson

from bench.harness import load
from bench.harness.drain import Job
from bench.subjects.peers import environment
from pipeline.local.java import find_java
from pipeline.local.ports import free_port

BATCH = 2000

# Without the reduction buffer unnest can't upsert: Postgres refuses two rows of a key in a statement.
VARIANTS: dict[str, dict[str, object]] = {
    "upsert": {},
    "reduction buffer": {"use.reduction.buffer": "true"},
    "reduction buffer, unnest": {
        "use.reduction.buffer": "true",
        "dialect.postgres.unnest.insert.enabled": "true",
    },
}

_FIELDS = [
    {"field": "id", "type": "int64", "optional": False},
    {"field": "app_id", "type": "string", "optional": True},
    {"field": "last_seen", "type": "string", "optional": True,
     "name": "io.debezium.time.ZonedTimestamp", "version": 1},
    {"field": "session_count", "type": "int64", "optional": True},
    {"field": "tags", "type": "string", "optional": True,
     "name": "io.debezium.data.Json", "version": 1},
]  # fmt: skip
SCHEMA = orjson.dumps({"type": "struct", "name": "session", "optional": False, "fields": _FIELDS})


def enveloped(source: load.Records) -> load.Records:
    """Wrap the load's records: schema and payload, with running totals."""
    totals: dict[int, int] = {}
    for key, value in source:
        document = orjson.loads(value)
        document.pop("pad", None)  # the sink refuses a field without a column
        total = totals.get(document["id"], 0) + document["session_count"]
        document["session_count"] = totals[document["id"]] = total
        document["tags"] = orjson.dumps(document["tags"]).decode()
        payload = orjson.dumps(document)
        yield key, b'{"schema":' + SCHEMA + b',"payload":' + payload + b"}"


def commands(job: Job, *, variant: str, jvm: list[str]) -> list[list[str]]:
    """Return the command of Connect in standalone mode, with one task per core."""
    home = environment.connect()
    worker, connector = job.directory / "worker.properties", job.directory / "sink.properties"
    worker.write_text(_properties(_worker(job)))
    connector.write_text(_properties({**_connector(job), **VARIANTS[variant]}))
    logging = f"-Dlog4j2.configurationFile={environment.JAVA / 'log4j2.properties'}"
    main = "org.apache.kafka.connect.cli.ConnectStandalone"
    return [
        [str(find_java()), *jvm, logging, "-cp", f"{home}/lib/*", main, str(worker), str(connector)]
    ]


def _worker(job: Job) -> dict[str, object]:
    converter = "org.apache.kafka.connect.json.JsonConverter"
    return {
        "bootstrap.servers": job.bootstrap,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": converter,
        "value.converter.schemas.enable": "true",
        "offset.storage.file.filename": job.directory / "offsets",
        "offset.flush.interval.ms": 1000,
        "plugin.path": environment.connect() / "plugins",
        "plugin.discovery": "service_load",
        "listeners": f"http://127.0.0.1:{free_port()}",
    }


def _connector(job: Job) -> dict[str, object]:
    parts = urlsplit(job.dsn)
    return {
        "name": job.group,
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": 2,
        "topics": job.topic,
        "connection.url": f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
        "connection.username": parts.username or "postgres",
        "connection.password": parts.password or "none",
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": "id",
        "schema.evolution": "none",
        "collection.name.format": "sessions",
        "batch.size": BATCH,
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.max.poll.records": BATCH,
        "consumer.override.max.partition.fetch.bytes": 4 * 1024 * 1024,
    }


def _properties(values: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())
