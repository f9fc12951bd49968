"""Sending what `KafkaProducer.send` refuses: a null header, and a null value without a key.

Kafka knows both, and kafka-python writes both, but ``send`` checks its arguments for them. It does so
before it calls the serializer, which is given the value and the list of headers. So ``send`` is given
bytes in the place of nulls, and the serializer puts the nulls back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka.serializer import Serializer

Headers = list[tuple[str, bytes | None]]


def sendable(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> dict[str, Any]:
    """The arguments ``value`` and ``headers`` for a producer whose serializer is `PutNullsBack`."""
    return {"value": b"" if value is None else value, "headers": _Stated(value, headers)}


class PutNullsBack(Serializer):
    """The ``value_serializer`` for what `sendable` makes; leaves everything else as it is."""

    def serialize(self, topic: str, headers: Any, data: bytes | None) -> bytes | None:
        del topic
        return headers.put_back() if isinstance(headers, _Stated) else data


class _Stated(list[tuple[str, bytes | None]]):
    """Headers with bytes in the place of nulls, that know how they and their record's value should be."""

    def __init__(self, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> None:
        self._value = value
        self._headers = list(headers)
        super().__init__((name, b"" if text is None else text) for name, text in self._headers)

    def put_back(self) -> bytes | None:
        """Become what was meant; the value that was meant."""
        self[:] = self._headers
        return self._value

    def __bool__(self) -> bool:
        """False: for the statistics kafka-python adds up the lengths in a list that is true, and a null
        has no length. What is written it takes from the list whatever that is."""
        return False
