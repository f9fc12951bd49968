"""Receipts: what a 202 carries, to ask later what became of the write.

A receipt is where the record is in Kafka: the topic's id, the partition and the offset. Clients take it
as opaque text: ``1`` for this form, and 38 characters of base64 (RFC 4648, 5). It is not signed: it
grants nothing, and whoever makes one up learns no more than whether an offset is applied. Four bytes of
a checksum tell a receipt that was cut or mistyped from one that is not known.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error, crc32
from uuid import UUID

from attrs import frozen

FORM = "1"
_PLACE = struct.Struct(">16sIq")
_SUM = struct.Struct(">I")


@frozen
class Receipt:
    """A record's place. The id of a topic made anew under the same name is another."""

    topic_id: UUID
    partition: int
    offset: int


def encode(topic_id: UUID, partition: int, offset: int) -> str:
    """Return a receipt as text."""
    place = _PLACE.pack(topic_id.bytes, partition, offset)
    return FORM + urlsafe_b64encode(place + _SUM.pack(crc32(place))).decode().rstrip("=")


def decode(text: str) -> Receipt:
    """Read a receipt.

    Raises:
        ValueError: the text is none; the message says so, and does not show it.
    """
    form, rest = text[:1], text[1:]
    if form != FORM or not rest.isascii():
        raise ValueError("this is no receipt, or one of a newer version")
    try:
        data = urlsafe_b64decode(rest + "=" * (-len(rest) % 4))
    except Error:
        data = b""
    if len(data) != _PLACE.size + _SUM.size or encoded_otherwise(data, rest):
        raise ValueError("this is no receipt: it may have been cut off")
    place = data[: _PLACE.size]
    if _SUM.unpack(data[_PLACE.size :]) != (crc32(place),):
        raise ValueError("this is no receipt: its checksum does not fit")
    topic_id, partition, offset = _PLACE.unpack(place)
    return Receipt(UUID(bytes=topic_id), partition, offset)


def encoded_otherwise(data: bytes, text: str) -> bool:
    """Return whether these bytes are not written so: one receipt has one text."""
    return urlsafe_b64encode(data).decode().rstrip("=") != text
