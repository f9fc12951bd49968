"""Whole programs under test: `pipeline run` as processes, on a topic and databases of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.instance import PATIENCE, ROOT, Instance
from tests.support.servers import DatabaseFactory, TopicFactory, unique_name
from tests.support.traffic import Group, Load

__all__ = ["PATIENCE", "ROOT", "Group", "Instance", "Job", "JobFactory", "Load", "account_database"]

CONFIG = """\
[pipeline]
name = "{group}"
{pipeline}

[kafka]
bootstrap_servers = ["{bootstrap}"]
topics = ["{topic}"]
group_id = "{group}"
session_timeout_ms = 6000
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

[http]
listen = "127.0.0.1:0"
"""


class Job:
    """A topic, its databases, a configuration, and the instances that run it."""

    def __init__(self, bootstrap: str, topic: str, group: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.directory = directory
        self.group = Group(bootstrap, topic, group)
        self.instances: list[Instance] = []
        self.config = directory / "pipeline.toml"
        self.options = ""
        """Lines for [kafka] that say how to reach it, where it is a secured one."""

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
                bootstrap=self.bootstrap.replace(",", '", "'), topic=self.topic, group=self.group.group,
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

    def start_on(self, dsn: str) -> Instance:
        """Make the table of `accounts` in a database, and start an instance that writes to it alone."""
        psql(dsn, accounts.TABLE)
        self.write_config({"db0": (dsn, "")})
        return self.start()

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
