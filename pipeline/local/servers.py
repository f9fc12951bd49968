"""Kafka and Postgres together, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pipeline.local.errors import LocalError
from pipeline.local.kafka import Kafka
from pipeline.local.members import end_members
from pipeline.local.postgres import Postgres, create_database, drop_database
from pipeline.local.server import Server, Settings

DSN_VARIABLE = "PIPELINE_LOCAL_DSN"
"""Names a Postgres to use instead of starting one; its user must be a superuser."""


class Servers:
    """What :meth:`start` started, for as long as its ``with`` block lasts."""

    def __init__(
        self, directory: Path, kafka: Kafka | None, postgres: Postgres | None, dsn: str
    ) -> None:
        self.directory = directory
        self._kafka = kafka
        self._postgres = postgres
        self._dsn = dsn

    @classmethod
    @contextmanager
    def start(
        cls,
        directory: Path | str | None = None,
        *,
        kafka: bool = True,
        postgres: bool = True,
        kafka_settings: Settings | None = None,
        postgres_settings: Settings | None = None,
        keep: bool = False,
    ) -> Iterator[Self]:
        """Start the servers at the same time; all of them serve (after about 5 s) in the block.

        They end with the block, and with this process, also if it is killed. Data and logs are in
        ``directory`` and stay there; without one, they are in a temporary directory that is removed
        at the end unless ``keep`` is true. If the variable PIPELINE_LOCAL_DSN is set, the Postgres
        that it names is used.

        Raises LocalError if one doesn't start; then none is left running, and the logs stay.
        """
        remove = directory is None and not keep
        place = _directory(directory)
        given = os.environ.get(DSN_VARIABLE) if postgres else None
        k = Kafka(place / "kafka", kafka_settings, remove=remove) if kafka else None
        p = None
        if postgres and not given:
            p = Postgres(place / "postgres", postgres_settings, remove=remove)
        running = [server for server in (k, p) if server is not None]
        start_all(running)
        try:
            yield cls(place, k, p, given or (p.dsn if p else ""))
        finally:
            _end_all(running, place, remove=remove)

    @property
    def kafka(self) -> Kafka:
        """Kafka, to stop, start and kill. Raises LocalError if none was asked for."""
        if self._kafka is None:
            raise LocalError("no Kafka here: it was started with kafka=False")
        return self._kafka

    @property
    def postgres(self) -> Postgres:
        """Postgres, to stop, start and kill. Raises LocalError if none was started here."""
        if self._postgres is None:
            raise LocalError(
                f"no Postgres was started here: {DSN_VARIABLE} names another, or postgres=False"
            )
        return self._postgres

    @property
    def owns_postgres(self) -> bool:
        """Whether Postgres was started here, and may be stopped and killed."""
        return self._postgres is not None

    @property
    def bootstrap(self) -> str:
        """Kafka's ``host:port``."""
        return self.kafka.bootstrap

    @property
    def dsn(self) -> str:
        """Postgres, database ``postgres``, as its superuser."""
        return self._dsn or self.postgres.dsn

    def create_database(self, name: str) -> str:
        """Create a database and return its DSN. Raises LocalError if it exists."""
        return create_database(self.dsn, name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end whoever is connected to it."""
        drop_database(self.dsn, name)

    def create_topic(
        self, topic: str, partitions: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic: see :meth:`Kafka.create_topic`."""
        self.kafka.create_topic(topic, partitions, settings)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic: see :meth:`Kafka.delete_topic`."""
        self.kafka.delete_topic(topic)


def start_all(servers: Sequence[Server]) -> None:
    """Start servers at the same time; if one fails, and at Ctrl-C, end them all and raise."""
    with ThreadPoolExecutor(max(1, len(servers))) as pool:
        starting = [pool.submit(server.start) for server in servers]
        try:
            for one in starting:
                one.result()
        except BaseException:  # at Ctrl-C too, no server may be left behind
            for server in servers:
                server.close()
            raise


def _end_all(servers: Sequence[Server], directory: Path, *, remove: bool) -> None:
    """End the servers and wait until no process of theirs is left; remove their data if asked."""
    if servers:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(Server.close if remove else Server.stop, servers))
    end_members(directory)
    if remove:
        shutil.rmtree(directory)


def _directory(given: Path | str | None) -> Path:
    if given is None:
        made = Path(tempfile.mkdtemp(prefix="pipeline-"))
    else:
        made = Path(given).absolute()
        made.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # the user who runs Postgres must get through
        made.chmod(made.stat().st_mode | 0o011)
    return made
