"""What is to become of a record, if that is decided before Postgres sees it."""

from __future__ import annotations

from typing import TypeAlias

import attrs


@attrs.frozen
class DeadLetterReason:
    """Why a record will never be applied.

    Attributes:
        reason: a sentence; Postgres's own message where it refused the row.
        error: the name of the exception's class.
        sqlstate: five characters, or None where the record never reached Postgres.
        attempts: how often the record was tried.
    """

    reason: str
    error: str
    sqlstate: str | None = None
    attempts: int = 1

    @property
    def kind(self) -> str:
        """What kind of reason it is, one of `KINDS`.

        ``not-json``: the record can't be read; ``value``: it doesn't fit the columns; ``data`` and
        ``constraint``: Postgres's SQLSTATE classes 22 and 23; ``handler``: `HandlerReject`, or a
        `HandlerRetry` whose time was over.
        """
        by_class = _BY_CLASS.get((self.sqlstate or "")[:2])
        return by_class or _BY_ERROR.get(self.error, "other")


KINDS = ("not-json", "value", "data", "constraint", "handler", "other")
"""What `DeadLetterReason.kind` may be."""

_BY_ERROR = {
    "DecodeError": "not-json",
    "RowError": "value",
    "HandlerReject": "handler",
    "HandlerRetry": "handler",
}
_BY_CLASS = {"22": "data", "23": "constraint"}

Disposition: TypeAlias = DeadLetterReason
"""What a record carries that is not simply to be applied."""
