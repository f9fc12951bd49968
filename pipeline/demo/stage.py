"""The demo's topic, databases and configuration files, and its instances as processes."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import attrs

from pipeline.demo.events import PARTITIONS
from pipeline.errors import PipelineError
from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.local.process import Process, Program

TOPIC = "sessions"
GROUP = "demo"
STREAM = f"{GROUP}/{TOPIC}"
SHARDS = {"db0": range(3), "db1": range(3, PARTITIONS)}
SESSION_TIMEOUT_SECONDS = 6
LAST_LINES = 10

TABLE = """\
create table subscriptions (
    id            bigint primary key,
    app_id        text not null,
    session_count bigint not null,
    last_seen     timestamptz not null,
    tags          jsonb not null,
    last_event    bigint not null
)"""

CONFIG = """\
[pipeline]
name = "demo"
owner = "{owner}"

[kafka]
bootstrap_servers = ["{bootstrap}"]
topics = ["{topic}"]
group_id = "{group}"
session_timeout_ms = {session_timeout_ms}

[records]
key = "id"
tenant = "app_id"

[sink]
table = "public.subscriptions"
mode = "upsert"
primary_key = ["id"]

[sink.columns]
id = "id"
app_id = "app_id"
session_count = {{ from = "session_count", merge = "add" }}
last_seen = {{ from = "last_seen", merge = "max" }}
tags = {{ from = "tags", merge = "jsonb" }}
last_event = "number"
"""

SHARD = """
[[shards]]
name = "{name}"
dsn = "{dsn}"
partitions = "{first}-{last}"
connections = 4
"""


class DemoInstance:
    """One ``pipeline run`` under a guard: it ends with this process, however this process ends."""

    def __init__(self, name: str, config: Path) -> None:
        self.name = name
        self.config = config
        self.log = config.with_suffix(".log")
        self._process: Process | None = None

    def start(self) -> None:
        """Start the instance, which joins the group a second or two later. Raises LocalError."""
        command = [sys.executable, "-m", "pipeline", "run", "--config", str(self.config)]
        program = Program(
            name=f"instance {self.name}",
            argv=command,
            directory=self.config.parent,
            log=self.log,
            stop_signal=signal.SIGTERM,
            end_signal=signal.SIGKILL,
        )
        self._process = Process(program, tied=True, remove=False)

    @property
    def running(self) -> bool:
        """Whether the instance's process exists."""
        return self._process is not None and self._process.running

    def check(self) -> None:
        """Raise PipelineError, with the end of its log, if the instance has ended by itself."""
        if self._process is not None and not self._process.running:
            raise PipelineError(f"instance {self.name} ended by itself: {self._last_words()}")

    def _last_words(self) -> str:
        """Return the messages that ended it, or the end of its log (which `keep_logs` keeps)."""
        text = self.log.read_text(errors="replace")
        if messages := re.findall(
            r"^(?:\S+Z CRITICAL pipeline|pipeline:) (.*)", text, re.MULTILINE
        ):
            return "; ".join(messages)
        lines = text.splitlines()
        end = "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
        return f"{self.log.name} ends with\n{end}"

    def kill(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        if self._process is not None:
            self._process.kill(signal.SIGKILL)
            self._process = None

    def stop(self) -> None:
        """Send SIGTERM, as an operator would, and wait until the process is gone."""
        if self._process is not None:
            self._process.stop()
            self._process = None


@attrs.frozen
class DemoStage:
    """The servers, databases and instances of a demo. Every method blocks."""

    servers: Servers
    dsns: dict[str, str]
    instances: tuple[DemoInstance, ...]

    def close(self) -> None:
        """End every instance, drop the databases."""
        for instance in self.instances:
            instance.kill()
        for name in SHARDS:
            self.servers.drop_database(_database_name(name))


def open_stage(servers: Servers) -> DemoStage:
    """Create the topic, the databases with their tables, and a configuration for each instance."""
    servers.create_topic(TOPIC, PARTITIONS)
    dsns = {name: _database(servers, name) for name in SHARDS}
    directory = servers.directory / "instances"
    directory.mkdir()
    configs = {name: directory / f"{name}.toml" for name in "AB"}
    for name, config in configs.items():
        config.write_text(_config(name, servers.bootstrap, dsns))
    instances = tuple(DemoInstance(name, config) for name, config in configs.items())
    return DemoStage(servers, dsns, instances)


def _database(servers: Servers, name: str) -> str:
    """Create a database; drop one that an earlier run has left on a server that is not ours."""
    database = _database_name(name)
    servers.drop_database(database)
    dsn = servers.create_database(database)
    psql(dsn, TABLE)
    return dsn


def _database_name(shard: str) -> str:
    return f"pipeline_demo_{shard}"


def _config(owner: str, bootstrap: str, dsns: dict[str, str]) -> str:
    text = CONFIG.format(
        owner=owner, bootstrap=bootstrap, topic=TOPIC, group=GROUP,
        session_timeout_ms=SESSION_TIMEOUT_SECONDS * 1000,
    )  # fmt: skip
    for name, partitions in SHARDS.items():
        text += SHARD.format(name=name, dsn=dsns[name], first=partitions[0], last=partitions[-1])
    return text


def keep_logs(directory: Path) -> Path:
    """Copy the logs and configurations below a directory to a new one, and return that."""
    kept = Path(tempfile.mkdtemp(prefix="pipeline-demo-"))
    for file in directory.rglob("*"):
        if file.suffix in (".log", ".toml") and file.is_file():
            shutil.copy(file, kept / file.name)
    return kept
