"""A streaming standby, and an address that leads to it after a failover.

The usual asynchronous pair of Patroni and CloudNativePG: what the primary committed and had not
shipped is lost when the standby is promoted. Fixture ``failover``: a `Failover` of the test's own
(4 s), whose DSN stays the same throughout::

    def test_something(failover):
        dsn = failover.dsn()                    # through a proxy, to the primary for now
        failover.standby.wait_caught_up()
        failover.standby.pause_replication()    # from here on, what is committed will be lost
        ...
        failover.fail_over()                    # the primary crashes, the standby is promoted

`standby_of` is the same without the address, on a server that is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from pipeline.local.ports import HOST
from pipeline.local.process import Program
from pipeline.local.server import Settings
from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE
from tests.support.postgres_servers import (
    PostgresServer,
    Version,
    copy_cluster,
    postgres_server,
    server_directory,
)
from tests.support.proxy import Proxy


class Standby(PostgresServer):
    """A hot standby that streams from a primary: read-only until `promote`."""

    def __init__(self, directory: Path, primary: PostgresServer) -> None:
        super().__init__(directory, primary._settings, install=primary._install)
        self.primary = primary

    def prepare(self) -> Program:
        """Copy the primary's cluster if there is none here yet."""
        if not (self.data / "PG_VERSION").exists():
            self.data.mkdir(parents=True)
            self.directory.chmod(0o711)
            copy_cluster(self.primary, self.data, "--write-recovery-conf")
        return super().prepare()

    def in_recovery(self) -> bool:
        """Whether it is a standby still."""
        return self.sql("select pg_is_in_recovery()") == "t"

    def wait_caught_up(self) -> None:
        """Wait until it has replayed what the primary has written by now."""
        reached = self.primary.sql("select pg_current_wal_flush_lsn()")
        question = f"select pg_last_wal_replay_lsn() >= '{reached}'"
        done = wait_until(lambda: self.sql(question) == "t", PATIENCE)
        assert done, f"the standby has not replayed {reached}"

    def pause_replication(self) -> None:
        """Take nothing more from the primary: commits from here on are lost by a promotion."""
        self.configure("primary_conninfo", "")
        gone = wait_until(lambda: self._streams() == "0", PATIENCE)
        assert gone, "the standby still streams"

    def resume_replication(self) -> None:
        """Stream from the primary again, and wait until that has begun."""
        address = f"host={HOST} port={self.primary.port} user=postgres"
        self.configure("primary_conninfo", address)
        back = wait_until(lambda: self._streams() == "1", PATIENCE)
        assert back, "the standby does not stream again"

    def promote(self) -> None:
        """Make it a primary, on a new timeline; return when it takes writes."""
        self.sql("select pg_promote()")
        done = wait_until(lambda: not self.in_recovery(), PATIENCE)
        assert done, "the standby was not promoted"

    def _streams(self) -> str:
        return self.sql("select count(*) from pg_stat_wal_receiver where status = 'streaming'")


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[Standby]:
    """A standby that streams from a running server, for as long as the block lasts (2 s)."""
    with server_directory() as place, ExitStack() as stack:
        standby = Standby(place / "standby", primary)
        stack.callback(standby.close)
        standby.start()
        streams = wait_until(lambda: standby._streams() == "1", PATIENCE)
        assert streams, "the standby does not stream"
        yield standby


@attrs.frozen
class Failover:
    """A primary, its standby, and the address that leads to one of them."""

    primary: PostgresServer
    standby: Standby
    address: Proxy

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """A DSN at the address: the same before and after the failover."""
        return self.primary.dsn_of(database, user, port=self.address.port)

    def fail_over(self) -> None:
        """Crash the primary, promote the standby, and lead the address there."""
        self.primary.crash()
        self.standby.promote()
        self.address.lead_to(self.standby.port)
        self.address.cut()

    @classmethod
    @contextmanager
    def started(
        cls, settings: Settings | None = None, version: Version = "wheel"
    ) -> Iterator[Failover]:
        """The pair, for as long as the block lasts."""
        with (
            postgres_server(settings, version=version) as primary,
            standby_of(primary) as standby,
            Proxy(primary.port) as address,
        ):
            yield cls(primary, standby, address)


@pytest.fixture
def failover() -> Iterator[Failover]:
    """A pair of the test's own. A failover happens once: `promote` can't be undone."""
    with Failover.started() as pair:
        yield pair
