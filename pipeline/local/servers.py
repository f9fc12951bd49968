"""Kafka and Postgres together, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.local import kafka as kafka_module
from pipeline.local import postgres as postgres_module
from pipeline.local.errors import LocalError
from pipeline.local.kafka import Kafka
from pipeline.local.members import end_members
from pipeline.local.postgres import Postgres, create_database, drop_database
from pipeline.local.server import Server

DSN_VARIABLE = "PIPELINE_LOCAL_DSN"
"""Names a Postgres to use instead of one of our own; the user there must be a superuser."""


class Servers:
    """What :meth:`start` started. Leaving the block, or :meth:`close`, ends it."""

    def __init__(
        self,
        directory: Path,
        kafka: Kafka | None,
        postgres: Postgres | None,
        dsn: str,
        remove: bool,
    ) -> None:
        self.directory = directory
        self._kafka = kafka
        self._postgres = postgres
        self._dsn = dsn
        self._remove = remove

    @classmethod
    def start(
        cls,
        directory: Path | str | None = None,
        *,
        kafka: bool = True,
        postgres: bool = True,
        kafka_settings: kafka_module.Settings | None = None,
        postgres_settings: postgres_module.Settings | None = None,
        keep: bool = False,
    ) -> Self:
        """Start the servers at the same time and return when all of them serve (about 5 s).

        They end with this process, also when it is killed. Data and logs are in ``directory`` and
        stay there; without one, in a temporary directory that is removed at the end unless
        ``keep``. Where the variable PIPELINE_LOCAL_DSN is set, that Postgres is used.

        Raises LocalError where one doesn't start; then none is left running, and the logs stay.
        """
        remove = directory is None and not keep
        place = _directory(directory)
        given = os.environ.get(DSN_VARIABLE) if postgres else None
        k = Kafka(place / "kafka", kafka_settings, remove=remove) if kafka else None
        p = None
        if postgres and not given:
            p = Postgres(place / "postgres", postgres_settings, remove=remove)
        start_all([server for server in (k, p) if server is not None])
        return cls(place, k, p, given or (p.dsn if p else ""), remove)

    def close(self) -> None:
        """End the servers; wait until no process of theirs is left."""
        running = [server for server in (self._kafka, self._postgres) if server is not None]
        if running:
            with ThreadPoolExecutor(len(running)) as pool:
                list(pool.map(Server.close if self._remove else Server.stop, running))
        end_members(self.directory)
        if self._remove:
            shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def kafka(self) -> Kafka:
        """Kafka, to stop, start and kill. Raises LocalError where none was asked for."""
        if self._kafka is None:
            raise LocalError("no Kafka here: it was started with kafka=False")
        return self._kafka

    @property
    def postgres(self) -> Postgres:
        """Postgres, to stop, start and kill. Raises LocalError where it isn't ours."""
        if self._postgres is None:
            raise LocalError(
                f"no Postgres of our own here: {DSN_VARIABLE} names another, or postgres=False"
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
        """Create a database and return its DSN. Raises LocalError where it exists."""
        return create_database(self.dsn, name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
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
    """Start servers at the same time; where one fails, or at Ctrl-C, end them all and raise."""
    with ThreadPoolExecutor(max(1, len(servers))) as pool:
        starting = [pool.submit(server.start) for server in servers]
        try:
            for one in starting:
                one.result()
        except BaseException:  # at Ctrl-C too, no server may be left behind
            for server in servers:
                server.close()
            raise


def _directory(given: Path | str | None) -> Path:
    if given is None:
        made = Path(tempfile.mkdtemp(prefix="pipeline-"))
    else:
        made = Path(given).absolute()
        made.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # the user who runs Postgres must get through
        made.chmod(made.stat().st_mode | 0o011)
    return made
