"""Sending what `KafkaProducer.send` refuses: a null header, and a null value without a key.

Kafka knows both, and kafka-python can write both, but ``send`` refuses them in its arguments. It checks
these before it calls the serializer, which gets the value and the list of headers. So ``send`` is given
bytes in the place of nulls, and the serializer puts the nulls back. All of it runs on the thread that
calls ``send``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka.serializer import Serializer

Headers = list[tuple[str, bytes | None]]


def sendable(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> dict[str, Any]:
    """Return the arguments ``value`` and ``headers`` of ``send``.

    The producer's ``value_serializer`` must be a `PutNullsBack`.
    """
    return {"value": b"" if value is None else value, "headers": _Stated(value, headers)}


class PutNullsBack(Serializer):
    """The ``value_serializer`` for what `sendable` returns; leaves every other value as it is."""

    def serialize(self, topic: str, headers: Any, data: bytes | None) -> bytes | None:
        del topic
        return headers.put_back() if isinstance(headers, _Stated) else data


class _Stated(list[tuple[str, bytes | None]]):
    """Headers with bytes in the place of nulls, which know the original headers and value."""

    def __init__(self, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> None:
        self._value = value
        self._headers = list(headers)
        super().__init__((name, b"" if text is None else text) for name, text in self._headers)

    def put_back(self) -> bytes | None:
        """Restore the original headers in place, and return the original value."""
        self[:] = self._headers
        return self._value

    def __bool__(self) -> bool:
        """Return False.

        For its statistics kafka-python adds up the lengths of the headers if the list is true, and a
        null has no length. What it writes does not depend on that.
        """
        return False
