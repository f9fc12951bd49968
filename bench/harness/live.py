"""A pipeline that keeps up with a steady producer, observed from outside, through Postgres."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import asyncpg

from bench.harness import load
from bench.harness.drain import Commands, DrainFailed, Job, launched
from bench.harness.paced import Produced
from bench.harness.topics import PARTITIONS
from pipeline.local import Servers
from pipeline.local.errors import last_lines
from pipeline.local.process import Process

PATIENCE = 60.0
LOOK_SECONDS = 0.1


class Live:
    """A topic, a database with a table, and the processes between them."""

    def __init__(self, job: Job, command: Sequence[str]) -> None:
        self.job = job
        self._command = command
        self._processes: list[Process] = []

    @classmethod
    @contextmanager
    def open(
        cls,
        servers: Servers,
        commands: Commands,
        *,
        partitions: int = PARTITIONS,
        table: str = load.TABLE,
    ) -> Iterator[Self]:
        """Make topic and table; at the end, stop all processes and drop the database.

        Args:
            servers: Kafka and Postgres.
            commands: the program, a single process of it.
            partitions: how many the topic has.
            table: the statement that creates the table ``sessions``.
        """
        name = f"live_{uuid4().hex[:8]}"
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        servers.create_topic(name, partitions)
        job = Job(servers.bootstrap, name, name, servers.create_database(name), directory)
        (command,) = commands(job)
        live = cls(job, command)
        try:
            live.query(table)
            # Each flush of the WAL is timed: see `bench.latency`.
            live.query(f"alter database {name} set track_wal_io_timing = on")
            yield live
        finally:
            for process in live._processes:
                process.stop()
            servers.drop_database(name)
            shutil.rmtree(directory)

    def instance(self) -> Process:
        """Start an instance of the program; several share the partitions."""
        return self._launched("instance", self._command)

    def producer(self, rate: float, **limits: float | str) -> Process:
        """Start `bench.harness.paced` with these options; without limits it never ends by itself."""
        command = [sys.executable, "-m", "bench.harness.paced", f"--topic={self.job.topic}"]
        command += [f"--bootstrap={self.job.bootstrap}", f"--rate={rate}"]
        command += [f"--{name}={limit}" for name, limit in limits.items()]
        return self._launched("producer", command)

    def other(self, name: str, *options: str) -> Process:
        """Start another program of `bench.harness`."""
        return self._launched(name, [sys.executable, "-m", f"bench.harness.{name}", *options])

    def produced(self, producer: Process, patience: float = PATIENCE) -> Produced:
        """Wait for the end of a producer, and return what it did.

        Raises:
            DrainFailed: the producer failed, or did not end within ``patience`` seconds.
        """
        self.until(lambda: not producer.running, "the producer ends", patience)
        try:
            return Produced(**json.loads(producer.program.log.read_text().splitlines()[-1]))
        except (ValueError, IndexError, TypeError):
            raise DrainFailed(f"the producer failed: {last_lines(producer.program.log)}") from None

    def query(self, statement: str, *arguments: object) -> list[Any]:
        """Return the rows of a statement, executed on a connection of its own."""
        return asyncio.run(_fetched(self.job.dsn, statement, arguments))

    def until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition.

        Raises:
            DrainFailed: the condition did not hold within ``patience`` seconds.
        """
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(last_lines(process.program.log) for process in self._processes)
                raise DrainFailed(f"{what}: not within {patience:.0f} s\n{logs}")
            time.sleep(LOOK_SECONDS)

    def _launched(self, name: str, command: Sequence[str]) -> Process:
        log = self.job.directory / f"process-{len(self._processes)}.log"
        self._processes.append(launched(name, command, log))
        return self._processes[-1]


async def _fetched(dsn: str, statement: str, arguments: Sequence[object]) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()
