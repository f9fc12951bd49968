"""Offsets as Postgres writes an int8multirange."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.records.ranges import ranges_of


def multirange(offsets: Iterable[int]) -> str:
    """Offsets, in any order, as the text of an int8multirange."""
    return multirange_of(ranges_of(offsets))


def multirange_of(ranges: Iterable[tuple[int, int]]) -> str:
    """Half-open ranges as the text of an int8multirange."""
    return "{" + ",".join(f"[{start},{end})" for start, end in ranges) + "}"


def parse_multirange(text: str | None) -> list[tuple[int, int]]:
    """The ranges in an int8multirange's canonical text (``{[1,5),[7,9)}``)."""
    if not text or text == "{}":
        return []
    pairs = text.strip("{}")[1:-1].split("),[")
    return [(int(start), int(end)) for start, end in (pair.split(",") for pair in pairs)]
