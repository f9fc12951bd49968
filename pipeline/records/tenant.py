"""Whose record it is: the tenant, read from a record as it was sent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeAlias

from pipeline.records.path import Path
from pipeline.records.record import Record
from pipeline.records.rows import Shape, plain, row_parser

TenantOf: TypeAlias = Callable[[Record], Hashable]
"""A record → its tenant; None if it has none that could be named: missing, or not plain."""

PLAIN = (str, int, float, bool)


def tenant_reader(path: Path) -> TenantOf:
    """Return a function that reads the tenant at a path.

    A path into the value is read from its text, whatever the sink decodes of it, and nothing else of the
    value is decoded. That costs as much as to decode a record: ask only where it matters.
    """
    getter = path.getter()
    parse = row_parser(Shape((path.steps[0],))) if path.in_value else None

    def tenant_of(record: Record) -> Hashable:
        if parse is not None:
            try:
                document = parse(record.raw.value or b"")
            except (ValueError, RecursionError):
                return None
            record = Record(record.source, record.offset, record.raw, document, None)
        found = plain(getter(record))
        return found if isinstance(found, PLAIN) else None

    return tenant_of
