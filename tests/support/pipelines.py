"""Whole programs under test: `pipeline run` as processes, on a topic and databases of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

import attrs
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.servers import DatabaseFactory, TopicFactory, unique_name

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that anything may take before a test fails. Nothing is said by how long it took."""

CONFIG = """\
[pipeline]
name = "{group}"
{pipeline}

[kafka]
bootstrap_servers = ["{bootstrap}"]
topics = ["{topic}"]
group_id = "{group}"
session_timeout_ms = 6000
heartbeat_interval_ms = 1000
{kafka}

[records]
{records}

{sink}

{shards}

[limits]
{limits}

[errors]
backoff_max = "1s"
{errors}
"""


class Instance:
    """One `pipeline run`, its output in a file."""

    def __init__(self, config: Path, log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", "--config", str(config)],
                cwd=config.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code (negative: the signal that ended it). AssertionError where it goes on."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process {self.pid} still runs:\n{self.tail()}") from None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, also where it is stopped; nothing happens where it has ended."""
        if self.running:
            self.signal(signal.SIGKILL)
        self._process.wait()

    def errors(self) -> list[str]:
        """The messages that ended it."""
        return [
            line.removeprefix("pipeline: ")
            for line in self.output.splitlines()
            if line.startswith("pipeline: ")
        ]

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output.splitlines()[-lines:])


@attrs.define
class Group:
    """A consumer group on one topic, seen from outside: it never joins."""

    bootstrap: str
    topic: str
    group: str
    _consumer: Any = attrs.field(init=False, default=None)

    def partitions(self) -> list[Any]:
        numbers = self._client().partitions_for_topic(self.topic) or ()
        return [TopicPartition(self.topic, number) for number in sorted(numbers)]

    def committed(self) -> dict[int, int]:
        """Partition → committed offset, 0 where there is none."""
        return {
            p.partition: self._client().committed(p, timeout_ms=5000) or 0
            for p in self.partitions()
        }

    def ends(self) -> dict[int, int]:
        """Partition → the offset after its last record."""
        found = self._client().end_offsets(self.partitions(), timeout_ms=5000)
        return {partition.partition: end for partition, end in found.items()}

    def caught_up(self, partitions: Iterable[int] | None = None) -> bool:
        """Whether everything on these partitions (None: on all) is committed."""
        try:
            committed, ends = self.committed(), self.ends()
        except KafkaError:
            return False
        return bool(ends) and all(committed[p] == ends[p] for p in partitions or ends)

    def members(self) -> int:
        """How many members the group has now."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            return len(admin.describe_groups([self.group])[self.group]["members"])
        finally:
            admin.close()

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _client(self) -> Any:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False
            )
        return self._consumer


class Load:
    """A producer on a thread of its own, so many messages a second until it is stopped.

    A broker that is away is waited for. What is on the topic in the end is what counts.
    """

    def __init__(
        self, bootstrap: str, topic: str, messages: Iterable[accounts.Message], per_second: int
    ) -> None:
        self.sent = 0
        self._bootstrap = bootstrap
        self._topic = topic
        self._messages = messages
        self._per_second = per_second
        self._stop = Event()
        self._thread = Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and return when the broker has what was sent."""
        self._stop.set()
        self._thread.join()

    def reached(self, count: int) -> bool:
        """Whether so many messages were sent."""
        return self.sent >= count

    def _run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap, linger_ms=5, max_block_ms=120_000
        )
        portion = max(1, self._per_second // 50)
        for key, value in self._messages:
            if self.sent % portion == 0 and self._stop.wait(portion / self._per_second):
                break
            with suppress(KafkaError):
                producer.send(self._topic, key=key, value=value)
            self.sent += 1
        with suppress(KafkaError):
            producer.flush(timeout=PATIENCE)
        producer.close(timeout=5)


class Job:
    """A topic, its databases, a configuration, and the instances that run it."""

    def __init__(self, bootstrap: str, topic: str, group: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.directory = directory
        self.group = Group(bootstrap, topic, group)
        self.instances: list[Instance] = []
        self.config = directory / "pipeline.toml"

    def write_config(
        self, shards: Mapping[str, tuple[str, str]], sink: str = accounts.SINK, **sections: str
    ) -> Path:
        """Write the configuration: shard name → DSN and partitions ("" for all).

        ``sections`` are lines added to [pipeline], [kafka], [records], [limits] and [errors].
        """
        parts = dict.fromkeys(("pipeline", "kafka", "records", "limits", "errors"), "")
        parts["records"] = 'key = "@key"'
        text = "\n".join(shard_text(name, *where) for name, where in shards.items())
        self.config.write_text(
            CONFIG.format(
                bootstrap=self.bootstrap, topic=self.topic, group=self.group.group,
                sink=sink, shards=text, **{**parts, **sections},
            )
        )  # fmt: skip
        return self.config

    def start(self) -> Instance:
        """Start one more instance; it is ended with the test."""
        log = self.directory / f"instance-{len(self.instances)}.log"
        instance = Instance(self.config, log)
        self.instances.append(instance)
        return instance

    def produce(self, messages: Iterable[accounts.Message], partition: int | None = None) -> int:
        return accounts.produce(self.bootstrap, self.topic, messages, partition)

    def load(self, messages: Iterable[accounts.Message], per_second: int) -> Load:
        return Load(self.bootstrap, self.topic, messages, per_second)

    def log(self) -> dict[int, list[Any]]:
        """The topic, read back."""
        return accounts.read_topic(self.bootstrap, self.topic)

    def wait_until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait; AssertionError with all instances' last lines where it doesn't come true."""
        name = what or getattr(condition, "__name__", "the condition")
        assert wait_until(condition, PATIENCE), f"not reached: {name}\n{self.tails()}"

    def wait_caught_up(self, partitions: Iterable[int] | None = None) -> None:
        """Wait until all records (of these partitions) are applied and committed."""
        chosen = None if partitions is None else list(partitions)
        caught_up = f"caught up, {chosen or 'all partitions'}"
        self.wait_until(lambda: self.group.caught_up(chosen), caught_up)

    def tails(self) -> str:
        return "\n".join(f"--- {i.log.name} ({i.pid})\n{i.tail()}" for i in self.instances)

    def close(self) -> None:
        """End every instance; their last lines are printed, for pytest to show with a failure."""
        for instance in self.instances:
            instance.kill()
        self.group.close()
        print(self.tails())


def shard_text(name: str, dsn: str, partitions: str) -> str:
    """One of [[shards]]."""
    chosen = f'partitions = "{partitions}"\n' if partitions else ""
    return f'[[shards]]\nname = "{name}"\ndsn = "{dsn}"\nconnections = 4\n{chosen}'


JobFactory = Callable[..., Job]


@pytest.fixture
def new_job(
    servers: Servers, topic: TopicFactory, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[JobFactory]:
    """Jobs: ``new_job(partitions=6)``. Ended with the test."""
    made: list[Job] = []

    def make(partitions: int = 1) -> Job:
        directory = tmp_path / f"job-{len(made)}"
        directory.mkdir()
        job = Job(servers.bootstrap, topic(partitions), unique_name(request), directory)
        made.append(job)
        return job

    yield make
    for job in made:
        job.close()


@pytest.fixture
def job(new_job: JobFactory) -> Job:
    """A job of six partitions."""
    return new_job(6)


@pytest.fixture
def account_dsn(database: DatabaseFactory) -> str:
    """A database with the table of `accounts`."""
    return account_database(database)


def account_database(database: DatabaseFactory) -> str:
    dsn = database()
    psql(dsn, accounts.TABLE)
    return dsn
