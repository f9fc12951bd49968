"""A pipeline that keeps up with a steady producer, looked at from outside, through Postgres."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import asyncpg

from bench.harness import load
from bench.harness.drain import DrainFailed, Job, launched
from bench.harness.paced import Produced
from bench.subjects.programs import pipeline
from pipeline.local import Servers
from pipeline.local.errors import last_lines
from pipeline.local.process import Process

PATIENCE = 60.0
LOOK_SECONDS = 0.1


class Live:
    """A topic, a database with a table, and the processes between them. Leaving ends them all."""

    def __init__(
        self,
        servers: Servers,
        partitions: int,
        *,
        table: str = load.TABLE,
        sink: str = load.SINK,
        kafka: str = "",
    ) -> None:
        self._servers = servers
        self._name = self.topic = f"live_{uuid4().hex[:8]}"
        self._directory = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
        servers.create_topic(self._name, partitions)
        self.dsn = servers.create_database(self._name)
        self.query(table)
        # Each flush of the WAL is timed: see `bench.latency`.
        self.query(f"alter database {self._name} set track_wal_io_timing = on")
        job = Job(servers.bootstrap, self._name, self._name, self.dsn, self._directory)
        (self._command,) = pipeline(job, sink=sink, kafka=kafka)
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.stop()
        self._servers.drop_database(self._name)
        shutil.rmtree(self._directory)

    def instance(self) -> Process:
        """Start a ``pipeline run``; several share the partitions."""
        return self._launched("pipeline", self._command)

    def producer(self, rate: float, **limits: float) -> Process:
        """Start `bench.harness.paced`, with its options; without limits it goes on until it is stopped."""
        command = [sys.executable, "-m", "bench.harness.paced", f"--topic={self.topic}"]
        command += [f"--bootstrap={self._servers.bootstrap}", f"--rate={rate}"]
        command += [f"--{name}={limit}" for name, limit in limits.items()]
        return self._launched("producer", command)

    def produced(self, producer: Process) -> Produced:
        """What a producer that has ended has done.

        Raises:
            DrainFailed: it failed.
        """
        self.until(lambda: not producer.running, "the producer ends")
        try:
            return Produced(**json.loads(producer.program.log.read_text().splitlines()[-1]))
        except (ValueError, IndexError, TypeError):
            raise DrainFailed(f"the producer failed: {last_lines(producer.program.log)}") from None

    def query(self, statement: str, *arguments: object) -> list[Any]:
        """Rows of a statement, on a connection of its own."""
        return asyncio.run(_fetched(self.dsn, statement, arguments))

    def until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait for something.

        Raises:
            DrainFailed: it did not come within ``patience`` seconds.
        """
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(last_lines(process.program.log) for process in self._processes)
                raise DrainFailed(f"{what}: not within {patience:.0f} s\n{logs}")
            time.sleep(LOOK_SECONDS)

    def _launched(self, name: str, command: Sequence[str]) -> Process:
        log = self._directory / f"process-{len(self._processes)}.log"
        self._processes.append(launched(name, command, log))
        return self._processes[-1]


async def _fetched(dsn: str, statement: str, arguments: Sequence[object]) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()
