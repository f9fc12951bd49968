"""Certificates for tests of TLS: good ones, and each kind of bad one.

An `Authority` is a certificate authority of the test run's own. It issues for a server, or for a
client, a `Certificate`: PEM files that OpenSSL, Postgres and Kafka all read. Fixtures for the
session: ``authority``, and ``foreign_authority``, which nobody has reason to trust::

    authority.ca                                         # the file for ssl_cafile and sslrootcert
    authority.issue("server", "127.0.0.1", "localhost")
    authority.issue("expired", "127.0.0.1", expired=True)
    authority.issue("elsewhere", "elsewhere.invalid")    # a wrong host name
    authority.issue("client", "app", passphrase="secret")
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives import serialization


@attrs.frozen
class Certificate:
    """A certificate and its key, as files."""

    chain: Path
    """The certificate, PEM."""
    key: Path
    """Its private key, PEM (PKCS 8, which is what Kafka takes), of mode 0600."""
    both: Path
    """Key and certificate in one file, as Kafka wants its PEM keystore."""
    passphrase: str | None = None
    """What the key is encrypted with."""


class Authority:
    """A certificate authority whose files are in a directory of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self._authority = trustme.CA(organization_name=f"pipeline tests, {name}")
        self._directory = directory
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(
        self, name: str, *identities: str, expired: bool = False, passphrase: str | None = None
    ) -> Certificate:
        """Issue a certificate for host names or addresses, the first of which is its common name.

        ``expired``: it was valid until yesterday. ``name``: of its files.
        """
        now = datetime.now(UTC)
        issued = self._authority.issue_cert(
            *identities,
            common_name=identities[0],
            not_before=now - timedelta(days=30),
            not_after=now + timedelta(days=-1 if expired else 30),
        )
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        key = _pkcs8(issued.private_key_pem.bytes(), passphrase)
        return Certificate(
            chain=_write(self._directory / f"{name}.crt", chain),
            key=_write(self._directory / f"{name}.key", key),
            both=_write(self._directory / f"{name}.pem", key + chain),
            passphrase=passphrase,
        )


def _pkcs8(key: bytes, passphrase: str | None) -> bytes:
    loaded = serialization.load_pem_private_key(key, password=None)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _authority(name: str) -> Iterator[Authority]:
    with tempfile.TemporaryDirectory(prefix="pipeline-certificates-") as directory:
        yield Authority(Path(directory), name)


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The authority that issues what the servers of the tests show."""
    yield from _authority("trusted")


@pytest.fixture(scope="session")
def foreign_authority() -> Iterator[Authority]:
    """Another authority, of the same kind, that issued nothing of the servers."""
    yield from _authority("foreign")
