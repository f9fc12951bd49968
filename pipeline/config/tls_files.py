"""The files that ``ssl_*`` options and DSNs name: there, readable, and what OpenSSL takes.

They are looked at with the configuration, before anything connects: kafka-python and asyncpg name no
file, and OpenSSL asks for a missing passphrase on the terminal.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.config.mistakes import Mistake

FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")


def tls_mistakes(options: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with the files that options name, each under its option. Reads them."""
    if options.get("ssl_keyfile") and not options.get("ssl_certfile"):
        yield Mistake("kafka.ssl_certfile", "missing: kafka.ssl_keyfile needs it")
    unreadable = {
        name: problem
        for name in FILES
        if options.get(name) and (problem := _unreadable(options[name])) is not None
    }
    for name, problem in unreadable.items():
        yield Mistake(f"kafka.{name}", f"{options[name]}: {problem}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("ssl_cafile", "ssl_crlfile"):
        path = options.get(name)
        if path and name not in unreadable and not _loads(context, path):
            held = "certificate" if name == "ssl_cafile" else "list of revoked certificates"
            yield Mistake(f"kafka.{name}", f"{path}: holds no {held} in the form PEM")
    if options.get("ssl_certfile") and not unreadable.keys() & {"ssl_certfile", "ssl_keyfile"}:
        yield from _own_certificate(context, options)


OF_DSN = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
"""The parts of a DSN's query that name files."""


def dsn_file_mistakes(key: str, dsn: str, passfile: str | None) -> Iterator[Mistake]:
    """Yield which files a shard names that can't be read; ``key`` is the shard's. Reads them."""
    for name, path in parse_qsl(urlsplit(dsn).query):
        if name in OF_DSN and (problem := _unreadable(path)) is not None:
            yield Mistake(f"{key}.dsn", f"{name} {path}: {problem}")
    if passfile is not None and (problem := _unreadable(passfile)) is not None:
        yield Mistake(f"{key}.passfile", f"{passfile}: {problem}")


def _unreadable(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    return None


def _loads(context: ssl.SSLContext, path: str) -> bool:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _own_certificate(context: ssl.SSLContext, options: Mapping[str, Any]) -> Iterator[Mistake]:
    """Load the client's certificate and its key; which of the two is wrong is found out."""
    certificate, key = options["ssl_certfile"], options.get("ssl_keyfile") or None
    password, asked = options.get("ssl_password"), []

    def passphrase() -> str:
        asked.append(True)
        return password or ""

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except (ssl.SSLError, ValueError) as error:
        yield _why(certificate, key, bool(asked), password, str(error))


def _why(certificate: str, key: str | None, encrypted: bool, password: Any, text: str) -> Mistake:
    if encrypted and not password:
        return Mistake("kafka.ssl_password", f"missing: the key in {key or certificate} needs it")
    if encrypted:
        return Mistake("kafka.ssl_password", f"does not open the key in {key or certificate}")
    if "MISMATCH" in text.upper():
        return Mistake("kafka.ssl_keyfile", f"{key}: is not the key of {certificate}")
    if not _loads(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate):
        return Mistake("kafka.ssl_certfile", f"{certificate}: holds no certificate in the form PEM")
    if key is None:
        return Mistake(
            "kafka.ssl_keyfile", f"missing: {certificate} holds no private key in the form PEM"
        )
    return Mistake("kafka.ssl_keyfile", f"{key}: holds no private key in the form PEM")
