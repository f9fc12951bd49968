"""Postgres that the user ``app`` reaches with TLS and a password alone; certificates good and bad.

It is Debian's, as the wheel's is built without TLS; a test skips, with the reason, where it is
missing. Fixture ``tls_postgres``: one server for the session, whose certificate the session's
``authority`` issued for 127.0.0.1 and localhost. ``new_tls_postgres`` makes one with another::

    def test_something(tls_postgres, authority, foreign_authority, new_tls_postgres):
        dsn = tls_postgres.tls_dsn()                             # sslmode=verify-full
        dsn = tls_postgres.tls_dsn(ca=foreign_authority.ca)
        dsn = tls_postgres.tls_dsn(sslmode="disable")            # refused: no pg_hba.conf entry
        dsn = tls_postgres.tls_dsn(password="wrong")
        expired = new_tls_postgres(authority.issue("pg-expired", "127.0.0.1", expired=True))
        elsewhere = new_tls_postgres(authority.issue("pg-elsewhere", "elsewhere.invalid"))

The superuser ``postgres`` still comes without either, so `PostgresServer.sql` and the like work.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pipeline.local.binaries import postgres_user
from pipeline.local.ports import HOST
from pipeline.local.process import Program
from tests.support.certificates import Authority, Certificate
from tests.support.postgres_servers import (
    PostgresServer,
    require_debian_install,
    server_directory,
)

PASSWORD = "app-secret"
RULES = """\
host    all postgres 127.0.0.1/32 trust
hostssl all all      127.0.0.1/32 scram-sha-256
"""


class TlsPostgres(PostgresServer):
    """A server that shows a certificate. Its user ``app`` owns the database ``app``."""

    def __init__(self, directory: Path, certificate: Certificate, authority: Authority) -> None:
        self._chain, self._key = directory / "server.crt", directory / "server.key"
        self._rules = directory / "pg_hba.conf"
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(self._chain),
            "ssl_key_file": str(self._key),
            "hba_file": str(self._rules),
        }
        super().__init__(directory, settings, install=require_debian_install())
        self._certificate = certificate
        self._authority = authority

    def prepare(self) -> Program:
        """Lay the certificate where the server's user can read it, and the rules of access."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._rules.write_text(RULES)
        for source, place in (
            (self._certificate.chain, self._chain),
            (self._certificate.key, self._key),
        ):
            shutil.copy(source, place)
            place.chmod(0o600)
            user = postgres_user()
            if user is not None:
                os.chown(place, user, user)
        return super().prepare()

    def tls_dsn(
        self,
        database: str = "app",
        *,
        sslmode: str = "verify-full",
        ca: Path | None = None,
        user: str = "app",
        password: str = PASSWORD,
    ) -> str:
        """A DSN with TLS; ``ca`` is the authority to trust, the right one if none is given.

        ``sslmode``: libpq's, "disable" to "verify-full".
        """
        options = {"sslmode": sslmode}
        if sslmode != "disable":
            options["sslrootcert"] = str(ca or self._authority.ca)
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}?{urlencode(options)}"


@contextmanager
def tls_server(certificate: Certificate, authority: Authority) -> Iterator[TlsPostgres]:
    """A running server for as long as the block lasts (2 s to start)."""
    with server_directory() as place, ExitStack() as stack:
        server = TlsPostgres(place / "postgres", certificate, authority)
        stack.callback(server.close)
        server.start()
        server.sql(f"create role app login password '{PASSWORD}'")
        server.sql("create database app owner app")
        yield server


@pytest.fixture(scope="session")
def tls_postgres(authority: Authority) -> Iterator[TlsPostgres]:
    """A server with a good certificate, one for the session."""
    with tls_server(authority.issue("postgres", HOST, "localhost"), authority) as server:
        yield server


NewTlsPostgres = Callable[[Certificate], TlsPostgres]
"""``new_tls_postgres(certificate)`` → a running server that shows it."""


@pytest.fixture
def new_tls_postgres(authority: Authority) -> Iterator[NewTlsPostgres]:
    """Servers of this test's own, each with a certificate that the test chose."""
    with ExitStack() as stack:

        def make(certificate: Certificate) -> TlsPostgres:
            return stack.enter_context(tls_server(certificate, authority))

        yield make
