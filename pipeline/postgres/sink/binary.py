"""Bytes of a document, which JSON does not have: hex as Postgres writes it, or base64 if so configured."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

from pipeline.postgres.sink.values import Unfit

_HEX = re.compile(r"\\x(?:[0-9a-fA-F]{2}|\s)*")


def hexadecimal(value: Any) -> str:
    r"""Bytes written as ``\x`` and hexadecimal digits.

    Raises:
        ValueError: they are not.
    """
    if type(value) is str and _HEX.fullmatch(value):
        return "".join(value.lower().split())
    raise Unfit(
        'expected bytes in hex, such as "\\x00ff", not {} '
        '(for base64 the column needs encoding = "base64")',
        value,
    )


def base64(value: Any) -> str:
    """Bytes written in base64, with padding.

    Raises:
        ValueError: they are not.
    """
    if type(value) is not str:
        raise Unfit("expected bytes in base64, not {}", value)
    try:
        return "\\x" + b64decode(value, validate=True).hex()
    except ValueError as error:
        raise Unfit(f"expected bytes in base64, not {{}}: {error}", value) from None
