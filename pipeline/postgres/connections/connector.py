"""Opening connections: to the host that can be written, with the settings in the way that it takes.

**Which address.** The DSN is read anew for each connection, from where it comes from: a password that was
changed is found by the next connection. Of several hosts the first that answers and can be written is taken,
beginning with the one that was taken last; each has its share of the time, so a host that swallows packets
leaves some for the others.

**What is there.** A pooler such as PgBouncer answers with a process id of its own making, as it has no
process for each client. So each new connection asks one question: whether ``pg_backend_pid()`` is the id that
it was told when it connected. If not, something stands between that may give every transaction another
session. It is the same question for a pooler that refuses the settings as startup parameters ("unsupported
startup parameter", PgBouncer's default), which needs no asking, and for one that was told to ignore them,
which would leave them unset without a word. A pooler in session mode is treated alike: right, and some
round trips slower. One that passes on the server's own process id (pgpool-II) gives each client one session,
and is the same as none.

The question is a simple query, which prepares nothing; of such a query asyncpg gives back how many rows there
were, so the answers are in that number.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import asyncpg

from pipeline.config.model import Pooler
from pipeline.postgres.connections.address import Address, server_of
from pipeline.postgres.connections.pooled import PooledConnection
from pipeline.postgres.connections.session import Session, later, literal

Connection: TypeAlias = "asyncpg.Connection[Any]"

CLOSE_SECONDS = 2.0
"""How long a cancelled query may take to be cancelled on the server too."""

_ELSEWHERE, _READ_ONLY = 1, 2
_ASK = (
    f"select from generate_series(1, case pg_backend_pid() when %d then 0 else {_ELSEWHERE} end"
    f" + case current_setting('transaction_read_only') when 'on' then {_READ_ONLY} else 0 end)"
)


class NoServer(OSError):
    """No host of the address can be used now; the message has the reason of each."""


class ReadOnlyServer(NoServer):
    """The server that the address leads to takes no writes."""

    def __init__(self) -> None:
        super().__init__("the server is read-only")


class AddressUnreadable(NoServer):
    """What the DSN is read from can't be read, or holds no DSN, at this moment."""


_NEXT_HOST = (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)
"""After these another host is tried. A refused password is refused there too."""


class Connector:
    """Opens connections to one database. Used on the asyncio side only.

    Args:
        dsn: the address, or what reads it; called for each connection, it raises `ValueError` if it can't.
        session: the settings of each connection.
        pooler: what is between: "auto" finds out.
        passfile: a file of passwords, as libpq has it; for a DSN without one.
    """

    def __init__(
        self,
        dsn: str | Callable[[], str],
        session: Session,
        pooler: Pooler = "auto",
        passfile: str | None = None,
    ) -> None:
        self._dsn = dsn
        self._session = session
        self._pooler = pooler
        self._passfile = passfile
        self.server = ""
        """The host that was taken last, ``host:port``."""
        self.pooled: bool | None = None
        """Whether a pooler is between; None: not known yet."""
        self.entered = False
        """Whether a connection was ever made: what refuses the next one may pass."""
        self.forget()

    def forget(self) -> None:
        """The server is gone: what is there next time may be something else. Not a checkpoint."""
        self.pooled = {"auto": None, "transaction": True, "none": False}[self._pooler]

    async def connect(self) -> Connection:
        """Open a connection.

        Raises:
            NoServer: the address can't be read; or none of its hosts can be used.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the only host can't be used, or
                one refuses the user.
        """
        address = self._address()
        hosts = sorted(address.hosts, key=lambda host: server_of(host) != self.server)
        problems = []
        for host in hosts:
            try:
                connection = await self._to_host(host, address)
            except _NEXT_HOST as error:
                if len(hosts) == 1:
                    raise
                reason = str(error) or "no answer in time"
                problems.append(f"{server_of(host)}: {' '.join(reason.split())}")
            else:
                self.server, self.entered = server_of(host), True
                return connection
        raise NoServer("; ".join(problems))

    def _address(self) -> Address:
        try:
            return Address.parse(self._dsn if isinstance(self._dsn, str) else self._dsn())
        except ValueError as error:
            raise AddressUnreadable(str(error)) from None

    async def _to_host(self, dsn: str, address: Address) -> Connection:
        if self.pooled is not True:
            connection = await self._straight(dsn, address)
            if connection is not None:
                return connection
        connection = await self._open(dsn, address, pooled=True)
        if address.must_write and await _answer(connection) & _READ_ONLY:
            connection.terminate()
            raise ReadOnlyServer
        return connection

    async def _straight(self, dsn: str, address: Address) -> Connection | None:
        """Connect as to a server; None if there is a pooler after all."""
        try:
            connection = await self._open(dsn, address, pooled=False)
        except asyncpg.ProtocolViolationError as error:
            if self.pooled is False or "unsupported startup parameter" not in str(error):
                raise
            self.pooled = True
            return None
        if self.pooled is False and not address.must_write:
            return await _with_later(connection)
        answer = await _answer(connection)
        if self.pooled is None and answer & _ELSEWHERE:
            self.pooled = True
            with suppress(OSError, asyncpg.InterfaceError):  # it is not needed any more
                await connection.close(timeout=CLOSE_SECONDS)
            return None
        if address.must_write and answer & _READ_ONLY:
            connection.terminate()
            raise ReadOnlyServer
        return await _with_later(connection)

    async def _open(self, dsn: str, address: Address, *, pooled: bool) -> Connection:
        session = self._session
        settings = session.server_settings()
        seconds = (address.connect_timeout or session.connect_timeout) / len(address.hosts)
        if self._passfile is not None:
            _check_passfile(self._passfile)
        given: dict[str, Any] = {
            "timeout": seconds,
            "command_timeout": session.statement_timeout + 5.0,
            "passfile": self._passfile,
            "target_session_attrs": "any",  # asked above, without preparing a statement
        }
        if not pooled:
            straight: Connection = await asyncpg.connect(
                dsn,
                max_cached_statement_lifetime=0,
                server_settings={**address.settings, **settings},
                **given,
            )
            return straight
        if "options" in address.settings:
            raise asyncpg.InterfaceError(
                "options in the DSN can't be kept behind a pooler: name the settings themselves, "
                "?search_path=app for instance"
            )
        connection: PooledConnection = await asyncpg.connect(
            dsn,
            statement_cache_size=0,
            connection_class=PooledConnection,
            server_settings={"application_name": settings["application_name"]},
            **given,
        )
        version = connection.get_server_version().major
        connection.at_begin = session.at_begin(address.settings, version)
        return connection


async def _with_later(connection: Connection) -> Connection:
    """The connection with `session.LATER` set. Closes it if that fails."""
    settings = later(connection.get_server_version().major)
    if settings:
        await _done(
            connection, "; ".join(f"set {name} = {literal(v)}" for name, v in settings.items())
        )
    return connection


def _check_passfile(path: str) -> None:
    """asyncpg passes over a file that is not there, or that others may read, with a warning at most."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise AddressUnreadable(f"passfile {path} can't be read: {error.strerror}") from None
    if mode & 0o077:
        raise AddressUnreadable(f"passfile {path} may be read by others: chmod 0600 {path}")


async def _answer(connection: Connection) -> int:
    """What `_ASK` says: a sum of `_ELSEWHERE` and `_READ_ONLY`. Closes the connection if it fails."""
    tag = await _done(connection, _ASK % connection.get_server_pid())
    return int(tag.rpartition(" ")[2])


async def _done(connection: Connection, statement: str) -> str:
    try:
        return await connection.execute(statement)
    except (Exception, asyncio.CancelledError):  # whatever it is, nobody else knows the connection
        connection.terminate()
        raise
