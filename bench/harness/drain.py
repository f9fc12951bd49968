"""Measure a program that drains a filled topic into an empty table.

Every program is measured in the same way, and its start-up is left out in the same way. The clock
starts with the first look (one every 10 ms) that finds rows, or a given share of the records: the
records applied by then and the CPU used by then are subtracted. The clock stops with the last commit.
Postgres keeps the time of that (``track_commit_timestamp``), so nothing needs to read the table while
it is written: until the WAL stops growing, only the WAL's position is queried. At the end every row is
compared with the model.
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
from uuid import uuid4

import attrs

from bench.harness import usage
from bench.harness.databases import Databases
from bench.harness.topics import PARTITIONS, Topic
from pipeline.local import LocalError, Servers
from pipeline.local.errors import last_lines
from pipeline.local.process import Process, Program

LOOK_SECONDS = 0.01
WAL_SECONDS = 0.1
QUIET_BYTES = 64 * 1024
SUM_SECONDS = 1.0
"""Between two sums over the quiet table (each takes 15 ms of a core for 100,000 rows)."""


@attrs.frozen
class Job:
    """What a program has to do.

    Attributes:
        dsn: the database; the first one if there are several.
        directory: for the program's files and logs; removed afterwards.
        shards: all databases, if there are several: each has a block of the partitions.
        partitions: how many the topic has.
    """

    bootstrap: str
    topic: str
    group: str
    dsn: str
    directory: Path
    shards: tuple[str, ...] = ()
    partitions: int = PARTITIONS

    def arguments(self) -> list[str]:
        """Return the job as options of the hand-written loops."""
        named = {"bootstrap": self.bootstrap, "topic": self.topic, "group": self.group}
        return [f"--{key}={value}" for key, value in {**named, "dsn": self.dsn}.items()]


Commands = Callable[[Job], Sequence[Sequence[str]]]
"""A program: the command lines of its processes, of which several share the work."""


@attrs.frozen
class Drained:
    """One measured run. Figures per record count the records after the first look only."""

    program: str
    records: int
    seconds: float
    rate: float
    """Records per second."""
    cpu: float
    """CPU time of the program's processes, µs per record."""
    memory: float
    """Peak resident memory of the program's processes, MB."""
    postgres_cpu: float
    """CPU time of all of Postgres, µs per record."""
    kafka_cpu: float
    """CPU time of the broker, µs per record."""
    transactions: int
    """Writing transactions in Postgres meanwhile: batches, and one fold per second and database."""
    wrong: int
    """Rows that differ from the model; 0 in any run that counts."""

    @property
    def batch(self) -> float:
        """Records per transaction."""
        return self.records / max(1, self.transactions)


class DrainFailed(Exception):
    """A program ended early, did not finish in time, or was too fast to be measured."""


@contextmanager
def servers() -> Iterator[Servers]:
    """Run the Kafka and the Postgres that are measured: fsync is on, commit times are kept."""
    settings = {
        "fsync": "on",
        "track_commit_timestamp": "on",
        "shared_buffers": "512MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "1h",
    }
    with Servers.start(postgres_settings=settings) as started:
        yield started


def drain(
    started: Servers,
    topic: Topic,
    name: str,
    commands: Commands,
    *,
    patience: float = 600.0,
    shards: int = 1,
    skip: float = 0.0,
) -> Drained:
    """Measure a program that drains a topic into new databases.

    Args:
        started: the servers.
        topic: what is drained.
        name: the program's name, for people.
        commands: the program.
        patience: seconds after which the program has failed.
        shards: how many databases.
        skip: the share of the records that are applied before the clock starts, for programs whose
            start-up goes on after their first rows.

    Raises:
        DrainFailed: the program ended early, or has not applied everything after ``patience`` seconds.
    """
    group = f"bench_{uuid4().hex[:8]}"
    names = [group, *(f"{group}_{number}" for number in range(1, shards))]
    directory = Path(tempfile.mkdtemp(prefix=f"{group}-"))
    dsns = tuple(started.create_database(database) for database in names)
    several = dsns if shards > 1 else ()
    job = Job(started.bootstrap, topic.name, group, dsns[0], directory, several, topic.partitions)
    try:
        return asyncio.run(_Drain(started, topic, name, job, patience, skip).run(commands))
    finally:
        for database in names:
            started.drop_database(database)
        shutil.rmtree(directory)


def launched(name: str, command: Sequence[str], log: Path) -> Process:
    """Start a process that ends with this one; its output goes to a file.

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
    """One run: the program's processes, and the databases that are observed meanwhile."""

    def __init__(
        self, started: Servers, topic: Topic, name: str, job: Job, patience: float, skip: float
    ) -> None:
        self._servers = started
        self._topic = topic
        self._name = name
        self._job = job
        self._skipped = max(1, int(topic.records * skip))
        self._deadline = time.monotonic() + patience
        self._processes: list[Process] = []

    async def run(self, commands: Commands) -> Drained:
        async with Databases.open(self._job.shards or [self._job.dsn]) as databases:
            try:
                for place, command in enumerate(commands(self._job)):
                    self._processes.append(self._started(place, command))
                return await self._measured(databases)
            finally:
                for process in self._processes:
                    process.stop()

    def _started(self, place: int, command: Sequence[str]) -> Process:
        return launched(self._name, command, self._job.directory / f"process-{place}.log")

    async def _measured(self, databases: Databases) -> Drained:
        before, began = await self._first_rows(databases)
        records = self._topic.records - before
        if not records:
            raise DrainFailed(
                f"{self._name} applied everything before the first look: more records"
            )
        ours, postgres, kafka = self._cpu()
        first = await databases.next_transaction()
        await self._until_all_applied(databases)
        ours_end, postgres_end, kafka_end = self._cpu()
        transactions = await databases.next_transaction() - first
        memory = usage.peak_megabytes(self._pids())
        seconds = await databases.last_commit() - began
        return Drained(
            program=self._name,
            records=records,
            seconds=seconds,
            rate=records / seconds,
            cpu=(ours_end - ours) / records * 1e6,
            memory=memory,
            postgres_cpu=(postgres_end - postgres) / records * 1e6,
            kafka_cpu=(kafka_end - kafka) / records * 1e6,
            transactions=transactions,
            wrong=await databases.wrong_rows(self._topic.expected),
        )

    async def _first_rows(self, databases: Databases) -> tuple[int, float]:
        while True:
            asked = time.monotonic()
            applied, now = await databases.applied()
            if applied >= self._skipped:
                return applied, now
            # A look that takes long is followed by as long a pause: looks must not slow the program down.
            await self._wait(max(LOOK_SECONDS, time.monotonic() - asked))

    async def _until_all_applied(self, databases: Databases) -> None:
        position, summed = 0, 0.0
        while True:
            last, position = position, await databases.wal()
            quiet = position - last < QUIET_BYTES
            if quiet and time.monotonic() - summed >= SUM_SECONDS:
                applied, _ = await databases.applied()
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

    def _pids(self) -> list[int]:
        return usage.tree(process.guard_pid for process in self._processes)

    def _cpu(self) -> tuple[float, float, float]:
        postgres, kafka = self._servers.postgres.process, self._servers.kafka.process
        if postgres is None or kafka is None:
            raise LocalError(
                "the benches measure servers that they started: unset the DSN of another one"
            )
        trees = (self._pids(), usage.tree([postgres.guard_pid]), usage.tree([kafka.guard_pid]))
        ours, of_postgres, of_kafka = map(usage.cpu_seconds, trees)
        return ours, of_postgres, of_kafka
