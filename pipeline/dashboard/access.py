"""Who may see the dashboard: this machine, or whoever has a token of ``[http] token``.

Metrics and probes are for programs that send no token, tell no reasons of operators, and stay open.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pipeline.web.tokens import Tokens

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of names, ``localhost`` alone is taken for one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Decides whether a request is answered.

    With tokens, it must carry one: as ``Authorization: Bearer``, or as the password of Basic, which
    browsers ask for. Without, its ``Host`` must be this machine itself: so a page elsewhere can't read
    it by a name of its own that it lets point to 127.0.0.1.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self.tokens = tuple(tokens)
        self._accepted = Tokens(self.tokens)

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is refused; None: it is to be answered."""
        if self.tokens:
            given = as_bearer(request.headers.get("authorization", ""))
            if self._accepted.admit(given.encode("latin-1", "replace")):
                return None
            return PlainTextResponse(
                "the dashboard needs http.token: as the password, with any user, or as a bearer token\n",
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="pipeline", charset="UTF-8"'},
            )
        if is_loopback(request.url.hostname or ""):
            return None
        text = "the dashboard is only for this machine: open it as 127.0.0.1 or localhost\n"
        return PlainTextResponse(text, status_code=403)


def as_bearer(authorization: str) -> str:
    """Return a header's value with Basic's password as a bearer token; another one as it is."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        _, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return f"Bearer {password}"
