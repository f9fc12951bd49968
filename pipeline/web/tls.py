"""The server's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from pipeline.errors import PipelineError


class TlsError(PipelineError):
    """The certificate or its key can't be used; the message names the files."""


class Tls:
    """A certificate and its key, which can be read anew.

    Attributes:
        context: for handshakes; TLS 1.2 or later.

    Raises:
        TlsError: the files can't be read, or don't belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.context = self._read()

    def reload(self) -> None:
        """Read the files again, for the connections to come. Blocks for a moment.

        Raises:
            TlsError: as at first; the certificate from before stays.
        """
        self.context = self._read()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except (OSError, ssl.SSLError, ValueError) as problem:
            raise TlsError(
                f"the certificate {self._certificate} with the key {self._key} can't be used:"
                f" {problem}; give PEM files that belong together, the key without a passphrase"
            ) from problem
        return context


def _no_passphrase() -> str:
    """Keep OpenSSL from asking on the terminal."""
    raise ValueError("the key has a passphrase")
