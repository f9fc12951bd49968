"""What is refused, and the answer that says so."""

from __future__ import annotations

import json
from http import HTTPStatus

MALFORMED = "malformed"
LINE_TOO_LONG = "request line too long"
HEAD_TOO_LARGE = "headers too large"
BODY_TOO_LARGE = "body too large"
BAD_BODY = "malformed body"
SLOW_HEAD = "slow headers"
SLOW_BODY = "slow body"
BAD_EXPECTATION = "unknown expectation"
UNREAD = "answer left unread"
NO_ROOM = "connection closed to make room"
NO_TLS = "failed TLS handshake"


class RefusedError(Exception):
    """A request that is refused: it gets one answer, and its connection is closed.

    Args:
        status: of the answer.
        reason: what it is counted as, one of this module's names.
        detail: what is wrong, for the client; it quotes nothing of the request.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


def malformed(detail: str) -> RefusedError:
    """Refuse a request whose head breaks a rule of HTTP/1.1, or one that this server adds."""
    return RefusedError(400, MALFORMED, detail)


def problem(status: int, detail: str) -> bytes:
    """Return the body of an answer that tells a problem (RFC 9457)."""
    title = HTTPStatus(status).phrase
    return json.dumps({"title": title, "status": status, "detail": detail}).encode() + b"\n"


PROBLEM_HEADERS = [(b"content-type", b"application/problem+json")]
