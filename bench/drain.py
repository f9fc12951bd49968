"""The common harness: a pre-filled topic is drained into a fresh table by some program, measured.

Every program is measured in the same way, and its start-up is left out in the same way. The clock
starts with the first look (one every 10 ms) that finds rows: what is applied by then, and the CPU used
by then, are subtracted. It stops with the last commit, whose time Postgres itself keeps
(``track_commit_timestamp``), so nothing needs to read the table while it is written: until the WAL
stops growing only its position is asked for. At the end every row is compared with the model.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import attrs

from bench import load, usage
from pipeline.local import LocalError, Servers
from pipeline.local.errors import last_lines
from pipeline.local.process import Process, Program

PARTITIONS = 6
LOOK_SECONDS = 0.01
WAL_SECONDS = 0.1
QUIET_BYTES = 64 * 1024
SUM_SECONDS = 1.0
"""The table is summed at most this often while it is quiet (15 ms of a core for 100,000 rows)."""

APPLIED = """\
select sum(session_count)::bigint, extract(epoch from statement_timestamp())::float8
from sessions"""
LAST_COMMIT = "select extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from sessions"
WAL = "select (pg_current_wal_insert_lsn() - '0/0')::bigint"


@attrs.frozen
class Topic:
    """A filled topic, and the rows that must be there once it is drained."""

    name: str
    records: int
    expected: dict[int, tuple[Any, ...]]


@attrs.frozen
class Job:
    """What a program is given to do. ``directory``: its own, for files and logs; then removed."""

    bootstrap: str
    topic: str
    group: str
    dsn: str
    directory: Path

    def arguments(self) -> list[str]:
        """As the command line of the loops here."""
        named = {"bootstrap": self.bootstrap, "topic": self.topic, "group": self.group}
        return [f"--{key}={value}" for key, value in {**named, "dsn": self.dsn}.items()]


Commands = Callable[[Job], Sequence[Sequence[str]]]
"""A program: the command lines of its processes (one, or several that share the work)."""


@attrs.frozen
class Drained:
    """One measured run. Per-record figures are of the records after the first look."""

    program: str
    records: int
    seconds: float
    rate: float
    """Records a second."""
    cpu: float
    """CPU of the program's processes, µs a record."""
    memory: float
    """Peak resident memory of its processes, MB."""
    postgres_cpu: float
    """Of all of Postgres, µs a record."""
    kafka_cpu: float
    """Of the broker, µs a record."""
    wrong: int
    """Rows that differ from the model; 0 in any run that counts."""


class DrainFailed(Exception):
    """A program ended, or did not finish in time; the message has the end of its log."""


@contextmanager
def servers() -> Iterator[Servers]:
    """Kafka and Postgres as they are measured: fsync on, commit times kept."""
    settings = {
        "fsync": "on",
        "track_commit_timestamp": "on",
        "shared_buffers": "512MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "1h",
    }
    with Servers.start(postgres_settings=settings) as started:
        yield started


def filled(started: Servers, records: int, keys: int, seed: int, *, prefix: str = "bench") -> Topic:
    """A topic with the load in it."""
    name = f"{prefix}-{records}-{keys}"
    started.create_topic(name, PARTITIONS)
    load.fill(started.bootstrap, name, load.records(records, keys, seed))
    return Topic(name, records, load.expected(load.records(records, keys, seed)))


def drain(
    started: Servers, topic: Topic, name: str, commands: Commands, *, patience: float = 600.0
) -> Drained:
    """Drain a topic into a new database by a program, and measure it.

    Raises:
        DrainFailed: it ended early, or has not applied everything after ``patience`` seconds.
    """
    database = f"bench_{uuid4().hex[:8]}"
    directory = Path(tempfile.mkdtemp(prefix=f"{database}-"))
    dsn = started.create_database(database)
    job = Job(started.bootstrap, topic.name, database, dsn, directory)
    try:
        return asyncio.run(_Drain(started, topic, name, job, patience).run(commands))
    finally:
        started.drop_database(database)
        shutil.rmtree(directory)


def launched(name: str, command: Sequence[str], log: Path) -> Process:
    """A process that ends with this one, its output in a file.

    Raises:
        LocalError: it can't be started.
    """
    program = Program(
        name=name,
        argv=list(command),
        directory=Path.cwd(),
        log=log,
        stop_signal=signal.SIGTERM,
        end_signal=signal.SIGKILL,
    )
    return Process(program, tied=True, remove=False)


class _Drain:
    """One run: the program's processes, and the connection that watches what they do."""

    def __init__(
        self, started: Servers, topic: Topic, name: str, job: Job, patience: float
    ) -> None:
        self._servers = started
        self._topic = topic
        self._name = name
        self._job = job
        self._deadline = time.monotonic() + patience
        self._processes: list[Process] = []

    async def run(self, commands: Commands) -> Drained:
        connection = await asyncpg.connect(self._job.dsn)
        try:
            await connection.execute(load.TABLE)
            await connection.execute("checkpoint")
            for place, command in enumerate(commands(self._job)):
                self._processes.append(self._started(place, command))
            return await self._measured(connection)
        finally:
            for process in self._processes:
                process.stop()
            await connection.close()

    def _started(self, place: int, command: Sequence[str]) -> Process:
        return launched(self._name, command, self._job.directory / f"process-{place}.log")

    async def _measured(self, connection: Any) -> Drained:
        before, began = await self._first_rows(connection)
        ours, postgres, kafka = self._cpu()
        await self._until_all_applied(connection)
        ours_end, postgres_end, kafka_end = self._cpu()
        memory = usage.peak_megabytes(self._pids())
        records = self._topic.records - before
        seconds = await connection.fetchval(LAST_COMMIT) - began
        wrong = await self._wrong_rows(connection)
        return Drained(
            program=self._name,
            records=records,
            seconds=seconds,
            rate=records / seconds,
            cpu=(ours_end - ours) / records * 1e6,
            memory=memory,
            postgres_cpu=(postgres_end - postgres) / records * 1e6,
            kafka_cpu=(kafka_end - kafka) / records * 1e6,
            wrong=wrong,
        )

    async def _first_rows(self, connection: Any) -> tuple[int, float]:
        while True:
            applied, now = await connection.fetchrow(APPLIED)
            if applied is not None:
                return applied, now
            await self._wait(LOOK_SECONDS)

    async def _until_all_applied(self, connection: Any) -> None:
        position, summed = 0, 0.0
        while True:
            last, position = position, await connection.fetchval(WAL)
            quiet = position - last < QUIET_BYTES
            if quiet and time.monotonic() - summed >= SUM_SECONDS:
                applied, _ = await connection.fetchrow(APPLIED)
                if applied >= self._topic.records:
                    return
                summed = time.monotonic()
            await self._wait(WAL_SECONDS)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for process in self._processes:
            if not process.running or time.monotonic() > self._deadline:
                what = "did not finish in time" if process.running else "ended"
                raise DrainFailed(f"{self._name} {what}: {last_lines(process.program.log)}")

    async def _wrong_rows(self, connection: Any) -> int:
        query = "select id, session_count, (tags->>'n')::bigint from sessions"
        found = {row[0]: (row[1], row[2]) for row in await connection.fetch(query)}
        expected = self._topic.expected
        return sum(found.get(key) != expected.get(key) for key in expected.keys() | found.keys())

    def _pids(self) -> list[int]:
        return usage.tree(process.guard_pid for process in self._processes)

    def _cpu(self) -> tuple[float, float, float]:
        postgres, kafka = self._servers.postgres.process, self._servers.kafka.process
        if postgres is None or kafka is None:
            raise LocalError("the benches measure servers of their own: start both here")
        trees = (self._pids(), usage.tree([postgres.guard_pid]), usage.tree([kafka.guard_pid]))
        ours, of_postgres, of_kafka = map(usage.cpu_seconds, trees)
        return ours, of_postgres, of_kafka
