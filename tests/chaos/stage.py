"""What chaos happens on: both servers behind proxies, two instances, a load that never stops."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import attrs

from pipeline.local import Kafka, Postgres
from pipeline.local.ports import HOST, free_port
from pipeline.local.postgres import create_database, psql
from pipeline.local.servers import start_all
from tests.support import accounts
from tests.support.instance import Instance
from tests.support.pipelines import Job
from tests.support.proxy import Proxy

PARTITIONS = 6


class ProxiedKafka(Kafka):
    """A broker with a second listener, which it advertises at a proxy's port.

    A client that connects through the proxy is so sent back through it for everything.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, remove=True)
        self.inner_port = free_port()

    def advertise(self, proxy_port: int) -> None:
        """Before the first start: where the second listener is said to be."""
        direct = f"DIRECT://{self.bootstrap}"
        self._settings |= {
            "listeners": f"{direct},PROXIED://{HOST}:{self.inner_port},"
            f"CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"{direct},PROXIED://{HOST}:{proxy_port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT,"
            "PROXIED:PLAINTEXT",
            "inter.broker.listener.name": "DIRECT",
        }


@attrs.define
class Servers:
    """Kafka and Postgres, each with the proxy before it."""

    kafka: ProxiedKafka
    kafka_proxy: Proxy
    postgres: Postgres
    postgres_proxy: Proxy

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Servers]:
        """For as long as the block lasts."""
        place = Path(tempfile.mkdtemp(prefix="pipeline-chaos-"))
        place.chmod(0o711)
        kafka = ProxiedKafka(place / "kafka")
        postgres = Postgres(place / "postgres", remove=True)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            stack.callback(kafka.close)
            stack.callback(postgres.close)
            kafka_proxy = stack.enter_context(Proxy(kafka.inner_port))
            postgres_proxy = stack.enter_context(Proxy(postgres.port))
            kafka.advertise(kafka_proxy.port)
            start_all([kafka, postgres])
            yield cls(kafka, kafka_proxy, postgres, postgres_proxy)

    def heal(self) -> None:
        """Both run, and both proxies do nothing but forward."""
        for proxy in (self.kafka_proxy, self.postgres_proxy):
            proxy.delay(0)
            proxy.lose_answers(b"", 0)
            proxy.accept()
        self.kafka.start()
        self.postgres.start()


class Stage:
    """A topic, a table and two instances on the servers, for one play."""

    def __init__(self, servers: Servers, directory: Path, **sections: str) -> None:
        self.servers = servers
        servers.heal()
        name = f"chaos_{uuid4().hex[:8]}"
        servers.kafka.create_topic(name, PARTITIONS)
        self.dsn = create_database(servers.postgres.dsn, name)
        psql(self.dsn, accounts.TABLE)
        through = urlsplit(self.dsn)._replace(
            netloc=f"postgres@{HOST}:{servers.postgres_proxy.port}"
        )
        self.job = Job(servers.kafka.bootstrap, name, name, directory)
        # The instances go through the proxies; what watches and checks does not.
        self.job.bootstrap = f"{HOST}:{servers.kafka_proxy.port}"
        self.job.write_config(
            {"db0": (through.geturl(), "")},
            limits='statement_timeout = "5s"\nlock_timeout = "3s"\ndrain_deadline = "4s"',
            **sections,
        )
        self.job.bootstrap = servers.kafka.bootstrap
        self.instances = [self.job.start(), self.job.start()]
        self.skipped: dict[int, int] = {}
        """Process → the duplicates it has skipped, as it said when it was last asked."""

    @property
    def name(self) -> str:
        return self.job.topic

    def replace(self, place: int) -> Instance:
        """Start an instance in the place of one that has ended."""
        self.instances[place] = self.job.start()
        return self.instances[place]

    def wait_for_progress(self) -> None:
        """Wait until both instances have work, and more is done in every partition than is now."""
        self.job.wait_until(
            lambda: all("assigned" in instance.output for instance in self.instances),
            "partitions for both instances",
        )
        before = self.job.group.committed()

        def moved() -> bool:
            now = self.job.group.committed()
            return all(now[partition] > offset for partition, offset in before.items())

        self.job.wait_until(moved, "progress in every partition")

    def differences(self) -> list[str]:
        """What is wrong in the end; empty where every row is as the topic says."""
        return accounts.differences(self.log(), self.dsn)

    def log(self) -> dict[int, list[Any]]:
        """The topic, read back."""
        return self.job.log()

    def close(self) -> None:
        self.job.close()
        self.servers.heal()
