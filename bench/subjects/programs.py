"""The programs in Python that run in the pipeline's own environment: the pipeline, the bare loop."""

from __future__ import annotations

import sys
from functools import partial
from itertools import pairwise

from bench.harness.drain import Commands, Job
from bench.harness.load import SINK

HEAD = """\
[pipeline]
name = "bench"

[kafka]
bootstrap_servers = ["{job.bootstrap}"]
topics = ["{job.topic}"]
group_id = "{job.group}"

[records]
key = "id"

{sink}
"""
SHARD = """\
[[shards]]
name = "db0"
dsn = "{job.dsn}"

"""
ONE_OF_SHARDS = """\
[[shards]]
name = "db{number}"
dsn = "{dsn}"
partitions = "{first}-{last}"

"""
HTTP = """\
[http]
listen = "127.0.0.1:0"
"""
CONFIG = HEAD + SHARD + HTTP
"""With one database; to be filled in with a job and a sink."""


def shards(job: Job) -> str:
    """The configuration's databases: of several, each has a block of the partitions."""
    if not job.shards:
        return SHARD.format(job=job)
    count = len(job.shards)
    bounds = [job.partitions * number // count for number in range(count + 1)]
    return "".join(
        ONE_OF_SHARDS.format(number=number, dsn=dsn, first=first, last=after - 1)
        for number, (dsn, (first, after)) in enumerate(
            zip(job.shards, pairwise(bounds), strict=True)
        )
    )


def pipeline(job: Job, *, processes: int = 1, sink: str = SINK, kafka: str = "") -> list[list[str]]:
    """``pipeline run`` as it is delivered: exactly once, in order by key, metrics on.

    ``kafka``: more lines for that table of the configuration.
    """
    file = job.directory / "pipeline.toml"
    text = HEAD.format(job=job, sink=sink) + shards(job) + HTTP
    file.write_text(text.replace("\n[records]", f"{kafka}\n[records]"))
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(file)]
    return [[*command, "--log-level", "warning"]] * processes


def bare_loop(job: Job, *, fast: bool = False) -> list[list[str]]:
    """See `bench.subjects.bare_loop`."""
    command = [sys.executable, "-m", "bench.subjects.bare_loop", *job.arguments()]
    return [command + ["--fast"] * fast]


PROGRAMS: dict[str, Commands] = {
    "bare loop": bare_loop,
    "bare loop, fast": partial(bare_loop, fast=True),
    "pipeline": pipeline,
}
"""What `bench.throughput` compares; the pipeline comes last."""
