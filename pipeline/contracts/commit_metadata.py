"""What is applied above the watermark, as text that travels with the offset committed to Kafka.

Without a ledger (``delivery = "at-least-once"``) a restart begins at the committed offset, and repeats
what was applied above it out of order. So those offsets go along in the commit's metadata: as a bitmap
or as run lengths, whichever is the smaller once compressed, in base64 behind a version.

    p1:  base64(zlib(varint committed offset, kind, body))
    runs     varints: gap, length, gap, length …, the first gap counted from the committed offset
    bitmap   bit i is the offset that is i above the committed one; the lowest bit of the first byte first

Two laws hold, for repeating a record is allowed here and losing one is not. An offset that is not
applied is never claimed: what does not decode claims nothing, and neither does a text that belongs to
another offset, as tools leave it that copy a group's offsets and change them on the way. And the
committed offset itself, which comes next, is never among those claimed.

A broker takes 4,096 bytes. Where more is needed the highest ranges are left out, so what is repeated
then is what came last.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

Ranges = Sequence[tuple[int, int]]

MAX_BYTES = 4096
"""Kafka's default ``offset.metadata.max.bytes``."""

MAX_SPAN = 1 << 20
"""How far above the committed offset anything is claimed. A reader holds a set of these."""

LEDGER = "p1"
"""What goes along with an offset when the ledger says what is applied above it, and the topic's id.

It tells an offset that this program committed from one that a tool has set: tools leave it out. If such
an offset is above what the ledger knows, then the database has lost commits. The id tells whether it was
committed for this topic, or for a former one of the same name.
"""

_PREFIX = "p1:"
_RUNS, _BITMAP = b"r", b"b"
_MAX_PLAIN = 16 + MAX_SPAN // 4
"""More than this is nothing that `encode` made: a bitmap takes an eighth of the span, runs are chosen
over it only where they are smaller, compressed, and at most twice the size."""


def ledger(topic_id: UUID) -> str:
    """Return what is committed along with an offset where there is a ledger."""
    return f"{LEDGER} {topic_id}"


def is_ours(text: str) -> bool:
    """Whether `ledger` wrote this."""
    return text.partition(" ")[0] == LEDGER


def is_of_another_topic(text: str, topic_id: UUID) -> bool:
    """Whether `ledger` wrote this for another topic; False where it says nothing of a topic."""
    return is_ours(text) and text.partition(" ")[2] not in ("", str(topic_id))


def encode(committed: int, ranges: Ranges) -> str:
    """Applied ranges above the committed offset as text of at most `MAX_BYTES`; "" for none.

    ``ranges`` are half-open, sorted and disjoint. What is not above ``committed``, or too far above
    it, is left out.
    """
    kept = list(_relative(committed, ranges))
    while kept:
        text = _PREFIX + base64.b64encode(_smallest(committed, kept)).decode("ascii")
        if len(text) <= MAX_BYTES:
            return text
        # Scaled rather than halved: sizes grow with the count, so one or two rounds are enough.
        kept = kept[: min(len(kept) - 1, len(kept) * MAX_BYTES * 95 // (len(text) * 100))]
    return ""


def decode(text: str, committed: int) -> list[tuple[int, int]]:
    """The ranges that `encode` wrote for this committed offset; none where it wrote none of this."""
    if not text.startswith(_PREFIX):
        return []
    try:
        plain = _unzip(base64.b64decode(text[len(_PREFIX) :], validate=True))
        about, place = _varint(plain, 0)
        if about != committed:
            return []
        kind, body = plain[place : place + 1], plain[place + 1 :]
        if kind == _RUNS:
            relative = list(_read_runs(body))
        elif kind == _BITMAP:
            relative = list(_read_bitmap(body))
        else:
            return []
    except (ValueError, IndexError, zlib.error, binascii.Error):
        return []
    if any(start < 1 or not start < end <= MAX_SPAN for start, end in relative):
        return []
    return [(committed + start, committed + end) for start, end in relative]


def unfold(text: str, committed: int) -> set[int]:
    """The offsets that a commit's metadata says are applied above its offset."""
    return {offset for start, end in decode(text, committed) for offset in range(start, end)}


def _relative(committed: int, ranges: Ranges) -> Iterator[tuple[int, int]]:
    for start, end in ranges:
        first, last = max(start - committed, 1), min(end - committed, MAX_SPAN)
        if first < last:
            yield first, last


def _smallest(committed: int, relative: Ranges) -> bytes:
    head = bytes(_varints([committed]))
    runs = head + _RUNS + _write_runs(relative)
    packed = zlib.compress(runs)
    if relative[-1][1] // 8 > 2 * len(runs):  # sparse: a bitmap would be mostly nothing
        return packed
    return min(packed, zlib.compress(head + _BITMAP + _write_bitmap(relative)), key=len)


def _write_runs(relative: Ranges) -> bytes:
    def numbers() -> Iterator[int]:
        place = 0
        for start, end in relative:
            yield start - place
            yield end - start
            place = end

    return bytes(_varints(numbers()))


def _read_runs(body: bytes) -> Iterator[tuple[int, int]]:
    place = index = 0
    while index < len(body):
        gap, index = _varint(body, index)
        length, index = _varint(body, index)
        yield place + gap, place + gap + length
        place += gap + length


def _write_bitmap(relative: Ranges) -> bytes:
    """Built as text of ones and zeros, which Python turns into bits in linear time."""
    size = -(-relative[-1][1] // 8) * 8
    cells = bytearray(b"0") * size
    for start, end in relative:
        cells[start:end] = b"1" * (end - start)
    cells.reverse()
    return int(cells, 2).to_bytes(size // 8, "little")


def _read_bitmap(body: bytes) -> Iterator[tuple[int, int]]:
    cells = bin(int.from_bytes(body, "little"))[:1:-1]
    start = cells.find("1")
    while start >= 0:
        end = cells.find("0", start)
        end = len(cells) if end < 0 else end
        yield start, end
        start = cells.find("1", end)


def _varints(numbers: Iterable[int]) -> Iterator[int]:
    """Seven bits a byte, the low ones first; the high bit says that more follow."""
    for number in numbers:
        while number > 0x7F:
            yield number & 0x7F | 0x80
            number >>= 7
        yield number


def _varint(body: bytes, index: int) -> tuple[int, int]:
    """A number, and the place after it; IndexError where it is cut short."""
    number = shift = 0
    while True:
        byte = body[index]
        index += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, index
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _unzip(packed: bytes) -> bytes:
    """Decompressed and verified (zlib has a checksum); ValueError where it is cut or far too long."""
    unzip = zlib.decompressobj()
    plain = unzip.decompress(packed, _MAX_PLAIN)
    if not unzip.eof or unzip.unused_data:
        raise ValueError("not one whole zlib stream")
    return plain
