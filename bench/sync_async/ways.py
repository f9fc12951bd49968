"""The three ways: which processes run, and what a request is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import attrs
import tomli_w

from bench.harness.drain import launched
from bench.harness.http_client import post
from bench.subjects.peers import environment
from bench.sync_async.world import World
from pipeline.local.ports import HOST, free_port
from pipeline.local.process import Process

SYNC, ASYNC, WAIT = "synchronous", "asynchronous", "asynchronous, wait=2"
START_SECONDS = 60.0
CONNECTIONS = 3
"""Of `pipeline run`, as delivered; the endpoint has one more for receipts."""


@attrs.frozen
class Running:
    """The processes of a way.

    Attributes:
        port: of the endpoint.
        request: makes a request of a body.
        gauges: the address of the consumer's metrics, if there is one.
    """

    port: int
    request: Callable[[bytes], bytes]
    gauges: str | None = None


@contextmanager
def synchronous(world: World) -> Iterator[Running]:
    """Run Starlette and asyncpg."""
    port = free_port()
    command = [str(environment.http()), "-m", "bench.subjects.sync_endpoint", str(port)]
    with _processes() as started:
        process = started(SYNC, [*command, world.program_dsn], world.directory)
        process.wait_until(lambda: _answers(f"http://{HOST}:{port}/records"), START_SECONDS)
        yield Running(port, lambda body: post(HOST, "/records", body))


@contextmanager
def asynchronous(world: World, *headers: str) -> Iterator[Running]:
    """Run `pipeline ingest` and `pipeline run`; ``headers`` go with each request."""
    port, metrics = free_port(), f"{HOST}:{free_port()}"
    file = world.directory / "pipeline.toml"
    file.write_text(tomli_w.dumps(configuration(world, port, metrics)))
    with _processes() as started:
        for command, address in (("run", metrics), ("ingest", f"{HOST}:{port}")):
            line = [sys.executable, "-m", "pipeline", command, "--config", str(file)]
            process = started(command, line, world.directory)
            url = f"http://{address}/readyz"
            process.wait_until(lambda url=url: _answers(url, 200), START_SECONDS)  # type: ignore[misc]
        yield Running(port, lambda body: post(HOST, "/v1/records", body, *headers), metrics)


@contextmanager
def waiting(world: World) -> Iterator[Running]:
    """Run the same; each request asks to wait until its write is visible."""
    with asynchronous(world, "prefer: wait=2") as running:
        yield running


WAYS = {SYNC: synchronous, ASYNC: asynchronous, WAIT: waiting}


def configuration(world: World, port: int, metrics: str) -> dict[str, object]:
    """Return the configuration of both commands."""
    return {
        "pipeline": {"name": world.name},
        "kafka": {
            "bootstrap_servers": [world.servers.bootstrap],
            "topics": [world.name],
            "group_id": world.name,
        },
        "records": {"key": "app"},
        "sink": {"handler": "bench.subjects.parent_totals:apply", "scope": "batch"},
        "shards": [{"name": "db0", "dsn": world.program_dsn, "connections": CONNECTIONS}],
        "http": {"listen": metrics},
        "ingest": {"listen": f"{HOST}:{port}", "receipts": True},
    }


Starter = Callable[[str, Sequence[str], Path], Process]


@contextmanager
def _processes() -> Iterator[Starter]:
    """Start processes; those started last end first."""
    running: list[Process] = []

    def start(name: str, command: Sequence[str], directory: Path) -> Process:
        running.append(launched(name, command, directory / f"{len(running)}.log"))
        return running[-1]

    try:
        yield start
    finally:
        for process in reversed(running):
            process.stop()


def _answers(url: str, status: int | None = None) -> bool:
    """Return whether an address answers, with this status if one is given."""
    try:
        with urlopen(url, timeout=5) as answer:
            found = answer.status
    except HTTPError as error:
        found = error.code
    except OSError:
        return False
    return status is None or found == status
