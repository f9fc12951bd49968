"""Cross-origin requests: what a browser is told (Fetch, 3.2)."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.ingest.problems import Headers

METHODS = b"GET, POST, OPTIONS"
HEADERS = (
    b"authorization, content-type, content-encoding, idempotency-key, prefer"
    b", traceparent, tracestate"
)
SECONDS = b"600"


class Cors:
    """The origins that may send from a browser; with none, no header is added."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.lower().encode() for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def headers(self, origin: bytes | None) -> Headers:
        """Return what goes with every answer to a request of this origin."""
        if not self._origins:
            return []
        if self._any:
            allowed = b"*"
        elif origin is not None and origin.lower() in self._origins:
            allowed = origin
        else:
            return [(b"vary", b"origin")]
        found = [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", b"preference-applied, retry-after"),
        ]
        return found if self._any else [*found, (b"vary", b"origin")]

    def preflight(self, origin: bytes | None) -> Headers:
        """Return what answers the browser's question before a request."""
        headers = self.headers(origin)
        if not any(name == b"access-control-allow-origin" for name, _ in headers):
            return headers
        return [
            *headers,
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", HEADERS),
            (b"access-control-max-age", SECONDS),
        ]
