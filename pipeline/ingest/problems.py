"""What is refused, as problem details (RFC 9457), for a request or for one record of a batch."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import Any

import attrs
import orjson

Headers = list[tuple[bytes, bytes]]

MEDIA_TYPE = b"application/problem+json"


@attrs.frozen
class Problem:
    """Why something is refused.

    Attributes:
        status: of HTTP.
        detail: a sentence for the client's developer. No value of a record is in it.
        field: the field of the record that is wrong, as a JSON pointer (RFC 6901).
        index: the record in the batch, from 0 on.
        retry_after: seconds after which it is worth another try.
    """

    status: int
    detail: str
    field: str | None = None
    index: int | None = None
    retry_after: float | None = None

    def members(self) -> dict[str, Any]:
        """Return the members of the JSON object."""
        found: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.index is not None:
            found["index"] = self.index
        if self.field is not None:
            found["field"] = self.field
        return found

    def result(self) -> dict[str, Any]:
        """Return the members as one of a batch's results: without type and title."""
        found: dict[str, Any] = {"status": self.status, "detail": self.detail}
        if self.field is not None:
            found["field"] = self.field
        return found

    def body(self) -> bytes:
        """Return the JSON."""
        return orjson.dumps(self.members())

    def headers(self) -> Headers:
        """Return the headers that go with it."""
        found = [(b"content-type", MEDIA_TYPE)]
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(ceil(self.retry_after), 1)).encode()))
        if self.status == HTTPStatus.UNAUTHORIZED:
            found.append((b"www-authenticate", b'Bearer realm="pipeline"'))
        return found


class RefusedError(Exception):
    """A request that is refused as a whole."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refuse(status: int, detail: str, retry_after: float | None = None) -> RefusedError:
    """Make the error that refuses a request."""
    return RefusedError(Problem(status, detail, retry_after=retry_after))
