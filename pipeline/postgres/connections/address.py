"""A DSN, taken apart as far as connecting needs it: its hosts one by one, and what it sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

import attrs

OF_CONNECTING = frozenset(
    (
        "service", "host", "port", "dbname", "database", "user", "password", "passfile",
        "krbsrvname", "gsslib", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslnegotiation",
        "sslcrl", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version",
    )
)  # fmt: skip
"""What asyncpg itself takes from a DSN's query; anything else there is a setting of the server."""


@attrs.frozen
class Address:
    """Where a database is.

    Attributes:
        hosts: a DSN for each host, in the order in which they are tried.
        settings: what the DSN sets on the server, as ``?search_path=app`` does.
        connect_timeout: seconds, if the DSN has one.
        must_write: whether a server that takes no writes is passed over. So it is if there are several
            hosts, unless the DSN says ``target_session_attrs=any``.
    """

    hosts: Sequence[str] = attrs.field(repr=False)
    settings: Mapping[str, str]
    connect_timeout: float | None
    must_write: bool

    @classmethod
    def parse(cls, dsn: str) -> Address:
        """Take a DSN apart. What asyncpg can't read either is left for it to refuse.

        Raises:
            ValueError: ``connect_timeout`` is no number.
        """
        parts = urlsplit(dsn)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        wanted = query.pop("target_session_attrs", None)
        timeout = query.pop("connect_timeout", None)
        settings = {name: query.pop(name) for name in list(query) if name not in OF_CONNECTING}
        hosts = tuple(_each_host(parts, query))
        return cls(
            hosts,
            settings,
            float(timeout) if timeout else None,
            len(hosts) > 1 if wanted is None else wanted != "any",
        )


def _each_host(parts: SplitResult, query: Mapping[str, str]) -> Iterator[str]:
    user, at, hosts = parts.netloc.rpartition("@")
    if not hosts and "," in query.get("host", ""):
        names = query["host"].split(",")
        ports = query.get("port", "5432").split(",")
        for place, host in enumerate(names):
            port = ports[place] if len(ports) == len(names) else ports[0]
            yield _written(parts, {**query, "host": host, "port": port})
        return
    for host in hosts.split(","):
        yield _written(parts._replace(netloc=f"{user}{at}{host}"), query)


def _written(parts: SplitResult, query: Mapping[str, str]) -> str:
    """The DSN again. ``postgresql:///d`` keeps its slashes, which `urlunsplit` would drop."""
    tail = f"?{urlencode(query, quote_via=quote, safe='/')}" if query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{tail}"


def server_of(dsn: str) -> str:
    """``host:port``, for messages and to tell servers apart; several hosts with commas between."""
    parts = urlsplit(dsn)
    if named := parts.netloc.rpartition("@")[2]:
        return named
    return dict(parse_qsl(parts.query)).get("host") or "local socket"
