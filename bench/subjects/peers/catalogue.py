"""The peers: how each is built, and the command that runs it, in all the variants that are measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs

from bench.harness.drain import Commands, Job
from bench.subjects import programs
from bench.subjects.peers import debezium, environment
from pipeline.local.java import find_java

JVM = ["-Xms256m", "-Xmx768m", "-XX:+UseParallelGC"]
"""For 2 cores: a heap that keeps 100,000 buffered records, and the collector for throughput."""


def _nothing() -> None:
    """Nothing to build."""


@attrs.frozen
class Peer:
    """A program to compare, or a variant of one."""

    name: str
    family: str
    """Variants of one program share it; the best of a family is quoted."""
    commands: Commands
    build: Callable[[], Any] = _nothing
    enveloped: bool = False
    """Reads the topic whose values carry their schema."""
    share: float = 1.0
    """Of the records: slow programs drain a smaller topic, for the figures are per record."""
    order: str = "partition"
    """Within what it keeps the order."""
    exactly_once: bool = False


def _loop(job: Job, *, module: str, extra: tuple[str, ...] = ()) -> list[list[str]]:
    command = [str(environment.python()), "-m", f"bench.subjects.peers.{module}", *job.arguments()]
    return [[*command, *extra]]


def _pyrallel(job: Job) -> list[list[str]]:
    return [
        [str(environment.pyrallel()), "-m", "bench.subjects.peers.pyrallel_app", *job.arguments()]
    ]


def _parallel_consumer(job: Job, *, batch: int, in_flight: int) -> list[list[str]]:
    logging = f"-Dlogback.configurationFile={environment.JAVA / 'logback.xml'}"
    command = [str(find_java()), *JVM, logging, "-cp", environment.parallel_consumer(), "Upserts"]
    work = [job.bootstrap, job.topic, job.group, jdbc(job.dsn), str(batch), str(in_flight)]
    return [[*command, *work]]


def jdbc(dsn: str) -> str:
    """A postgresql:// DSN as a JDBC URL."""
    parts = urlsplit(dsn)
    port = parts.port or 5432
    return f"jdbc:postgresql://{parts.hostname}:{port}{parts.path}?user={parts.username}"


def _python(name: str, family: str, module: str, *extra: str) -> Peer:
    commands = partial(_loop, module=module, extra=extra)
    return Peer(name, family, commands, environment.python)


def _debezium(variant: str) -> Peer:
    commands = partial(debezium.commands, variant=variant, jvm=JVM)
    name = f"Debezium JDBC sink, {variant}"
    return Peer(name, "Debezium JDBC sink", commands, environment.connect, enveloped=True)


def _parallel(batch: int, in_flight: int, share: float = 1.0) -> Peer:
    family = "Parallel Consumer" + (", one upsert a record" if batch == 1 else ", batches")
    name = f"Parallel Consumer, batch {batch}, {in_flight} in flight"
    commands = partial(_parallel_consumer, batch=batch, in_flight=in_flight)
    return Peer(name, family, commands, environment.parallel_consumer, share=share, order="key")


PEERS = (
    Peer("pipeline", "pipeline", programs.pipeline, order="key", exactly_once=True),
    Peer("bare loop", "bare loop", programs.bare_loop),
    Peer("bare loop, fast", "bare loop, fast", partial(programs.bare_loop, fast=True)),
    _python("confluent-kafka loop", "confluent-kafka loop", "confluent_loop"),
    _python("confluent-kafka loop, 2 lanes", "confluent-kafka loop", "confluent_loop", "--lanes=2"),
    _python("aiokafka loop", "aiokafka loop", "aiokafka_loop"),
    _python("aiokafka loop, 2 lanes", "aiokafka loop", "aiokafka_loop", "--lanes=2"),
    _python("FastStream", "FastStream", "faststream_app"),
    *(_debezium(variant) for variant in debezium.VARIANTS),
    _parallel(500, 2),
    _parallel(500, 4),
    _parallel(1, 16, share=0.2),
    _parallel(1, 32, share=0.2),
    Peer(
        "pyrallel-consumer, one upsert a record",
        "pyrallel-consumer",
        _pyrallel,
        environment.pyrallel,
        share=0.05,
        order="key",
    ),
)

TWO = Peer(
    "pipeline, 2 processes", "pipeline, 2 processes", partial(programs.pipeline, processes=2),
    order="key", exactly_once=True,
)  # fmt: skip
