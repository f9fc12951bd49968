"""The peers: how each is built, and the command that runs it, in all variants that are measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs

from bench.harness.drain import Commands, Job
from bench.subjects import programs
from bench.subjects.peers import debezium, environment
from pipeline.local import LocalError
from pipeline.local.java import find_java

JVM = ["-Xms256m", "-Xmx768m", "-XX:+UseParallelGC"]
"""For 2 cores: a heap for 100,000 buffered records, and the garbage collector for throughput."""


RUST_BATCH, RUST_CONNECTIONS = 10_000, 3


def _nothing() -> None:
    """Build nothing."""


@attrs.frozen
class Peer:
    """A program to compare with, or a variant of one."""

    name: str
    family: str
    """Shared by the variants of one program; the best of a family is quoted."""
    commands: Commands
    build: Callable[[], Any] = _nothing
    enveloped: bool = False
    """Whether it reads the topic whose values carry their schema."""
    share: float = 1.0
    """Of the records: slow programs drain a smaller topic, as the figures are per record."""
    order: str = "partition"
    """Within what it keeps the order: partition or key."""
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
    """Convert a postgresql:// DSN to a JDBC URL."""
    parts = urlsplit(dsn)
    port = parts.port or 5432
    return f"jdbc:postgresql://{parts.hostname}:{port}{parts.path}?user={parts.username}"


def _rust(job: Job) -> list[list[str]]:
    batch, connections = str(RUST_BATCH), str(RUST_CONNECTIONS)
    work = [job.bootstrap, job.topic, job.group, job.dsn, batch, connections]
    return [[str(environment.rust()), *work]]


def _python(name: str, family: str, module: str, *extra: str) -> Peer:
    commands = partial(_loop, module=module, extra=extra)
    return Peer(name, family, commands, environment.python)


def _debezium(variant: str) -> Peer:
    commands = partial(debezium.commands, variant=variant, jvm=JVM)
    name = f"Debezium JDBC sink, {variant}"
    return Peer(name, "Debezium JDBC sink", commands, environment.connect, enveloped=True)


def _parallel(batch: int, in_flight: int, share: float = 1.0) -> Peer:
    family = "Parallel Consumer" + (", one upsert per record" if batch == 1 else ", batches")
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
    Peer("Rust loop, 3 connections", "Rust loop", _rust, environment.rust),
    _python("FastStream", "FastStream", "faststream_app"),
    *(_debezium(variant) for variant in debezium.VARIANTS),
    _parallel(500, 2),
    _parallel(500, 4),
    _parallel(1, 16, share=0.2),
    _parallel(1, 32, share=0.2),
    Peer(
        "pyrallel-consumer, one upsert per record",
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

HAND_LOOPS = ("confluent-kafka loop", "aiokafka loop")
"""The families of loops in Python that users write by hand."""
JAVA = (
    "Debezium JDBC sink",
    "Parallel Consumer, batches",
    "Parallel Consumer, one upsert per record",
)
"""The families that run on a JVM."""


def built(peers: Iterable[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """Build peers; return those that can run here, and why the others can't, by name."""
    ready, skipped = [], {}
    for peer in peers:
        try:
            peer.build()
        except (environment.BuildFailed, LocalError) as problem:
            skipped[peer.name] = str(problem)
            print(f"skipped: {peer.name}: {problem}", file=sys.stderr, flush=True)
        else:
            ready.append(peer)
    return ready, skipped
