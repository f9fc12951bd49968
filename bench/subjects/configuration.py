"""The configuration of the pipeline that is measured, built as a dictionary and written as TOML."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomli_w

from bench.harness import load
from bench.harness.drain import Job

Table = Mapping[str, Any]

NOTHING: Table = {}
BY_ID: Table = {"key": "id"}
ANY_PORT: Table = {"listen": "127.0.0.1:0"}


def configuration(
    job: Job,
    *,
    records: Table = BY_ID,
    sink: Table = load.SINK,
    pipeline: Table = NOTHING,
    kafka: Table = NOTHING,
    shard: Table = NOTHING,
    limits: Table = NOTHING,
    http: Table | None = ANY_PORT,
) -> dict[str, Any]:
    """Return the configuration for a job: as delivered, but for what is given.

    Args:
        job: servers, topic and databases.
        records: the table ``[records]``.
        sink: the table ``[sink]``.
        pipeline: more of ``[pipeline]``.
        kafka: more of ``[kafka]``.
        shard: more of each of ``[[shards]]``.
        limits: the table ``[limits]``.
        http: the table ``[http]``; None: there is none.
    """
    tables: dict[str, Any] = {
        "pipeline": {"name": "bench", **pipeline},
        "kafka": {
            "bootstrap_servers": [job.bootstrap],
            "topics": [job.topic],
            "group_id": job.group,
            **kafka,
        },
        "records": dict(records),
        "sink": dict(sink),
        "shards": [{**one, **shard} for one in shards(job)],
        "limits": dict(limits),
    }
    return tables if http is None else {**tables, "http": dict(http)}


def shards(job: Job) -> list[dict[str, Any]]:
    """Return the shards of a job's databases; of several, each has a block of the partitions."""
    if not job.shards:
        return [{"name": "db0", "dsn": job.dsn}]
    count = len(job.shards)
    bounds = pairwise(job.partitions * number // count for number in range(count + 1))
    return [
        {"name": f"db{number}", "dsn": dsn, "partitions": f"{first}-{after - 1}"}
        for number, (dsn, (first, after)) in enumerate(zip(job.shards, bounds, strict=True))
    ]


def written(job: Job, tables: Table) -> Path:
    """Write a configuration into the job's directory, and return the file."""
    file = job.directory / "pipeline.toml"
    file.write_text(tomli_w.dumps(tables))
    return file
