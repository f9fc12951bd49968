"""Apache Kafka: one KRaft node, broker and controller in one, made to start quickly."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.local.jars import HERE, kafka_jars
from pipeline.local.java import find_java
from pipeline.local.ports import HOST, answers, free_port
from pipeline.local.process import Program
from pipeline.local.server import Server, Settings

SETTINGS: Settings = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": False,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "offsets.topic.num.partitions": 4,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # A killed broker may register again only when its session is over (9 s by default).
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # 128 MB of heap by default.
    "log.cleaner.dedupe.buffer.size": 4 * 1024 * 1024,
}
JVM = ["-Xms256m", "-Xmx512m", "-XX:+UseG1GC", "-Djava.awt.headless=true"]


class Kafka(Server):
    """A broker on 127.0.0.1.

    What it acknowledged survives kill(SIGKILL), as the page cache does; it doesn't fsync.
    """

    name = "Kafka"
    defaults = SETTINGS
    jvm: Sequence[str] = JVM

    @cached_property
    def controller_port(self) -> int:
        """The controller's port, which it keeps as the broker keeps `port`."""
        return free_port()

    @cached_property
    def cluster_id(self) -> str:
        """As long as Kafka's own, which may begin with a dash."""
        return uuid4().hex[:22]

    @property
    def bootstrap(self) -> str:
        """The broker's ``host:port``."""
        return f"{HOST}:{self.port}"

    def prepare(self) -> Program:
        """Fetch Kafka unless it is in the cache, and format the storage if it is new."""
        java = find_java()
        jars = kafka_jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_properties()
        base = [str(java), *self.jvm, f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"]
        base += ["-cp", f"{jars}/*"]
        if not (self._data / "meta.properties").exists():
            self._format(base)
        return Program(
            name=self.name,
            argv=[*base, "kafka.Kafka", str(self._properties)],
            directory=self.directory,
            log=self.log,
            stop_signal=signal.SIGTERM,
            end_signal=signal.SIGKILL,
        )

    def ready(self) -> bool:
        """Return whether the broker is registered and answers clients."""
        if not answers(self.port):
            return False
        try:
            with self.admin() as admin:
                return bool(admin.describe_cluster()["brokers"])
        except KafkaError:
            return False

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        """Open an admin client; it is closed at the end."""
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap, client_id="pipeline-local")
        try:
            yield client
        finally:
            client.close()

    def create_topic(
        self, topic: str, partitions: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic and return when each of its partitions has a leader.

        Raises kafka.errors.TopicAlreadyExistsError, and any other KafkaError.
        """
        options = {"num_partitions": partitions, "configs": dict(settings or {})}
        with self.admin() as admin:
            admin.create_topics({topic: options}, wait_for_metadata=True)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic. Raises kafka.errors.UnknownTopicOrPartitionError if there is none."""
        with self.admin() as admin:
            admin.delete_topics([topic])

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _write_properties(self) -> None:
        places = {
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "log.dirs": str(self._data),
        }
        lines = [f"{k}={_text(v)}\n" for k, v in {**places, **self._settings}.items()]
        self._properties.write_text("".join(lines))

    def _format(self, base: list[str]) -> None:
        command = [*base, "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", self.cluster_id, "--config", str(self._properties)]
        self._run(command, "Kafka's storage can't be formatted")


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
