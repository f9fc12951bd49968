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


Disposition: TypeAlias = DeadLetterReason
"""What a record carries that is not simply to be applied."""
