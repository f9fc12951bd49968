"""Three Kafka brokers for tests that break some of them.

Each broker is a controller too (KRaft's combined mode); topics have three replicas of which two
must be in sync, so one broker may be away and nothing that was acknowledged is lost::

    with three_brokers() as cluster:
        cluster.create_topic("t", partitions=6)
        leader = cluster.leader("t", 0)
        leader.kill(signal.SIGKILL)             # SIGSTOP, SIGCONT; leader.stop() is orderly
        cluster.wait_for_leader("t", 0, other_than=leader)
        leader.start()
        cluster.wait_in_sync("t")

Fixtures: ``brokers`` (one cluster for the session; whole again before each test that asks for it)
and ``broker_topic`` (topics of the test's own on it, ``broker_topic(partitions=6)``).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, UnknownBrokerIdError, UnknownTopicOrPartitionError

from pipeline.local import Kafka
from pipeline.local.ports import HOST, answers
from pipeline.local.servers import start_all
from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE
from tests.support.postgres_servers import server_directory
from tests.support.servers import TopicFactory, unique_name

REPLICATED: Mapping[str, str | int | bool] = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
    # A broker that is frozen is left out of the replicas in sync after so long (30 s by default).
    "replica.lag.time.max.ms": 5000,
}

QUICK_JVM = ("-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""A small heap, and a compiler that is soon done: for brokers that few records go through."""


class Broker(Kafka):
    """One of several brokers; start, stop and kill come from `pipeline.local.server.Server`."""

    jvm = QUICK_JVM

    def __init__(self, directory: Path, node: int) -> None:
        super().__init__(directory, {**REPLICATED, "node.id": node}, remove=True)
        self.node = node
        self.name = f"broker {node}"
        self.frozen = False

    def kill(self, number: int) -> None:
        """Send a signal: SIGKILL, SIGSTOP or SIGCONT (see `Server.kill`)."""
        super().kill(number)
        self.frozen = number == signal.SIGSTOP

    def join(self, voters: Sequence[Broker]) -> None:
        """Before the first start: make it one of a cluster."""
        quorum = (f"{broker.node}@{HOST}:{broker.controller_port}" for broker in voters)
        self._settings["controller.quorum.voters"] = ",".join(quorum)
        self.cluster_id = voters[0].cluster_id

    def ready(self) -> bool:
        """Whether this broker is registered, and answers."""
        if not answers(self.port):
            return False
        try:
            with self.admin() as admin:
                nodes = admin.describe_cluster()["brokers"]
        except KafkaError:
            return False
        return any(node["broker_id"] == self.node for node in nodes)


@attrs.frozen
class Cluster:
    """Brokers that form a cluster. Broker *n* has the node id *n*, from 1."""

    brokers: tuple[Broker, ...]

    @property
    def bootstrap(self) -> str:
        """All brokers' ``host:port``, divided by commas."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def serving(self) -> list[Broker]:
        """The brokers that run and are not frozen."""
        return [broker for broker in self.brokers if broker.running and not broker.frozen]

    def broker(self, node: int) -> Broker:
        """The broker of a node id."""
        return self.brokers[node - 1]

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        """An admin client of the brokers that serve, closed at the end."""
        servers = [broker.bootstrap for broker in self.serving]
        client = KafkaAdminClient(bootstrap_servers=servers, client_id="pipeline-tests")
        try:
            yield client
        finally:
            client.close()

    def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        settings: Mapping[str, str] | None = None,
        replicas: int = 3,
    ) -> None:
        """Create a topic and return when each of its partitions has a leader."""
        options = {
            "num_partitions": partitions,
            "replication_factor": replicas,
            "configs": dict(settings or {}),
        }
        with self.admin() as admin:
            admin.create_topics({topic: options}, wait_for_metadata=True)

    def place_topic(
        self, topic: str, assignments: Mapping[int, Sequence[int]], **settings: str
    ) -> None:
        """Create a topic with partition → node ids of its replicas, the preferred leader first.

        ``settings`` are Kafka's, with _ for . in the names.
        """
        options = {
            "assignments": {partition: list(nodes) for partition, nodes in assignments.items()},
            "configs": {name.replace("_", "."): value for name, value in settings.items()},
        }
        with self.admin() as admin:
            admin.create_topics({topic: options}, wait_for_metadata=True)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic; a broker that has just come back may not know the controller yet."""

        def deleted() -> bool:
            try:
                with self.admin() as admin:
                    admin.delete_topics([topic])
            except UnknownBrokerIdError:
                return False
            return True

        assert wait_until(deleted, PATIENCE), f"no broker knows who deletes {topic}"

    def partition(self, topic: str, partition: int) -> Mapping[str, Any]:
        """What the metadata say of a partition: leader_id, replica_nodes, isr_nodes."""
        return self._partitions(topic)[partition]

    def leader(self, topic: str, partition: int) -> Broker:
        """The broker that leads a partition. Raises LookupError if none does."""
        node = self.partition(topic, partition)["leader_id"]
        if node < 1:
            raise LookupError(f"{topic}-{partition} has no leader")
        return self.broker(node)

    def wait_for_leader(
        self, topic: str, partition: int, other_than: Broker | None = None
    ) -> Broker:
        """Wait until a partition is led, by another broker than one; return its leader."""
        refused = {-1, other_than.node if other_than else -1}

        def led() -> bool:
            with suppress(KafkaError, KeyError):
                return self.partition(topic, partition)["leader_id"] not in refused
            return False

        assert wait_until(led, PATIENCE), f"{topic}-{partition} has no new leader"
        return self.leader(topic, partition)

    def coordinator(self, group: str) -> Broker:
        """The broker that coordinates a consumer group; waited for while there is none."""
        nodes: dict[str, int] = {}

        def found() -> bool:
            with suppress(KafkaError), self.admin() as admin:
                nodes.update(admin._manager.run(admin._find_coordinator_ids, [group]))
            return group in nodes

        assert wait_until(found, PATIENCE), f"no broker coordinates {group}"
        return self.broker(nodes[group])

    def wait_in_sync(self, topic: str) -> None:
        """Wait until every replica of a topic is in sync again."""

        def in_sync() -> bool:
            with suppress(KafkaError):
                return all(
                    sorted(p["isr_nodes"]) == sorted(p["replica_nodes"])
                    for p in self._partitions(topic).values()
                )
            return False

        assert wait_until(in_sync, PATIENCE), f"{topic} is not in sync: {self._partitions(topic)}"

    def cut_short(self, topic: str, produce: Callable[[], None]) -> None:
        """Let a partition lose the records that ``produce`` sends, by an unclean election (15 s).

        The topic has one partition and two replicas: `place_topic` it on [2, 1] with
        ``unclean_leader_election_enable="true", min_insync_replicas="1"``. Its records get their
        acknowledgement from a leader that is alone and then dies; the replica that knows nothing of
        them leads from then on, and the next records have the offsets of the lost ones.
        """
        leader, follower = (self.broker(n) for n in self.partition(topic, 0)["replica_nodes"])
        follower.stop()
        alone = [leader.node]
        assert wait_until(lambda: self.partition(topic, 0)["isr_nodes"] == alone, PATIENCE)
        produce()
        leader.kill(signal.SIGKILL)
        follower.start()
        assert self.wait_for_leader(topic, 0, other_than=leader) is follower
        leader.start()
        self.wait_in_sync(topic)

    def heal(self) -> None:
        """Let frozen brokers go on, and start those that are down."""
        for broker in self.brokers:
            if broker.frozen:
                broker.kill(signal.SIGCONT)
        start_all([broker for broker in self.brokers if not broker.running])

    def _partitions(self, topic: str) -> dict[int, Mapping[str, Any]]:
        with self.admin() as admin:
            (told,) = admin.describe_topics([topic])
        return {each["partition_index"]: each for each in told["partitions"]}


@contextmanager
def three_brokers() -> Iterator[Cluster]:
    """Three running brokers for as long as the block lasts (about 10 s to start, 1 GB)."""
    with server_directory() as place, ExitStack() as stack:
        brokers = tuple(Broker(place / f"broker-{node}", node) for node in (1, 2, 3))
        for broker in brokers:
            broker.join(brokers)
            stack.callback(broker.close)
        start_all(brokers)
        yield Cluster(brokers)


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    with three_brokers() as cluster:
        yield cluster


@pytest.fixture
def brokers(_cluster: Cluster) -> Cluster:
    """The session's three brokers, all of them running."""
    _cluster.heal()
    return _cluster


@pytest.fixture
def broker_topic(brokers: Cluster, request: pytest.FixtureRequest) -> Iterator[TopicFactory]:
    """Topics of this test's own on `brokers`: see `tests.support.servers.topic`."""
    made: list[str] = []

    def make(partitions: int = 1, **settings: str) -> str:
        given = {key.replace("_", "."): value for key, value in settings.items()}
        name = unique_name(request)
        brokers.create_topic(name, partitions, {"retention.ms": "-1", **given})
        made.append(name)
        return name

    yield make
    brokers.heal()
    for name in made:
        with suppress(UnknownTopicOrPartitionError):
            brokers.delete_topic(name)
