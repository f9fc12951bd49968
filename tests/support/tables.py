"""A sink over a table that tests declare in a line a column, and records for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from pipeline.config.model import ColumnConfig, SinkConfig
from pipeline.postgres.sink.catalog import Column, Table
from pipeline.postgres.sink.sink import Sink, Write
from pipeline.records.record import Record
from pipeline.records.rows import row_parser
from tests.support.records import SOURCE, Raw

NAMES = {"int2": "smallint", "int4": "integer", "int8": "bigint", "float4": "real",
         "float8": "double precision", "bool": "boolean", "varchar": "character varying",
         "timestamptz": "timestamp with time zone",
         "timestamp": "timestamp without time zone"}  # fmt: skip
"""What `format_type` says, where it is not the type's own name."""


@attrs.frozen
class Declared:
    """A column: its type's name in the catalog, its merge, where its values come from."""

    base: str
    merge: str = "last"
    source: str | None = None


def catalog_column(name: str, base: str) -> Column:
    """A column as the catalog would tell of it."""
    return Column(
        name=name, type=NAMES.get(base, base), base=base, category="A" if base[0] == "_" else "X",
        not_null=False, has_default=False, generated=False,
        element=base[1:] if base[0] == "_" else None,
    )  # fmt: skip


def sink_config(
    columns: Mapping[str, Declared], primary_key: Sequence[str] = ("id",), **settings: Any
) -> SinkConfig:
    """The ``[sink]`` of a configuration, over ``public.t``."""
    return SinkConfig(
        table="public.t",
        primary_key=tuple(primary_key),
        columns=tuple(
            ColumnConfig(name=name, source=column.source or name, merge=column.merge)  # type: ignore[arg-type]
            for name, column in columns.items()
        ),
        **settings,
    )


def table_of(columns: Mapping[str, Declared]) -> Table:
    """The same table as the catalog would tell of it."""
    return Table(
        "public.t", {n: catalog_column(n, c.base) for n, c in columns.items()}, (), "public.t"
    )


def document_record(offset: int, key: object, document: Any) -> Record:
    """A record with a message key; ``document`` None makes it a tombstone."""
    value = None if document is None else msgspec.json.encode(document)
    raw = Raw(offset, str(key).encode(), value)
    return Record(SOURCE, offset, raw, document, key if isinstance(key, str | int) else str(key))


def writes(sink: Sink, records: Iterable[Record]) -> Iterator[Write]:
    """`Sink.writes` of records whose documents are rows, as a decoder makes them for the sink."""
    parse = row_parser(sink.shape)
    return sink.writes(
        [
            msgspec.structs.replace(record, document=record.value and parse(record.value))
            for record in records
        ]
    )
