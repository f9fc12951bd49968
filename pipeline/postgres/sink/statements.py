"""The SQL of the declared sink, with and without the ledger around it.

Under exactly-once a statement carries the fence, the data and the ledger's row together: one round
trip and no explicit BEGIN. Its first five parameters are the fence's, the sixth the offsets; those
of the data are as `packing.packed` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.postgres.ledger.lease import FENCE, GUARD_PARAMETERS, RECORD_APPLIED
from pipeline.postgres.sink.columns import SinkColumn, quote
from pipeline.postgres.sink.packing import unpacked
from pipeline.postgres.sink.sink import Sink


def fenced(data: str) -> str:
    """A statement around ``data`` that answers 1 where it was applied and 0 where it was fenced."""
    return (
        f"with fence as ({FENCE}),\ndata as ({data}),\n"
        f"ledger as ({RECORD_APPLIED} from fence)\nselect count(*) from fence"
    )


class Statements:
    """The sink's statements by the kind of `sink.Write`.

    ``guarded`` are whole statements with fence and ledger; ``plain`` are the data alone, for
    at-least-once and for what follows a guarded statement in one transaction.
    """

    def __init__(self, sink: Sink) -> None:
        kinds = {"insert": _insert, "upsert": _update if sink.mode == "update" else _upsert}
        if sink.primary_key:
            kinds["delete"] = _delete
        self.plain = {kind: make(sink, "", 1) for kind, make in kinds.items()}
        self.guarded = {
            kind: fenced(make(sink, "fence, ", GUARD_PARAMETERS + 1))
            for kind, make in kinds.items()
        }


def _source(columns: Sequence[SinkColumn], fence: str, first: int) -> str:
    arrays = unpacked((column.array for column in columns), first)
    return f"{fence}unnest({arrays}) u({_names(columns)})"


def _names(columns: Sequence[SinkColumn]) -> str:
    return ", ".join(quote(column.name) for column in columns)


def _into(sink: Sink, fence: str, first: int) -> str:
    selected = ", ".join(column.selected() for column in sink.columns)
    return (
        f"insert into {sink.table} as t ({_names(sink.columns)})\n"
        f"select {selected} from {_source(sink.columns, fence, first)}"
    )


def _insert(sink: Sink, fence: str, first: int) -> str:
    """What is there already stays; a conflict with another unique index is a record's mistake."""
    target = f" ({_names(sink.primary_key)})" if sink.primary_key else ""
    return f"{_into(sink, fence, first)}\non conflict{target} do nothing"


def _upsert(sink: Sink, fence: str, first: int) -> str:
    rest = [column for column in sink.columns if column not in sink.primary_key]
    merges = ", ".join(f"{quote(c.name)} = {c.merged('t', 'excluded')}" for c in rest)
    conflict = f"on conflict ({_names(sink.primary_key)})"
    return f"{_into(sink, fence, first)}\n{conflict} do " + (
        f"update set {merges}" if merges else "nothing"
    )


def _update(sink: Sink, fence: str, first: int) -> str:
    rest = [column for column in sink.columns if column not in sink.primary_key]
    cast = ", ".join(f"{column.selected()} as {quote(column.name)}" for column in sink.columns)
    merges = ", ".join(f"{quote(c.name)} = {c.merged('t', 'n')}" for c in rest)
    same = " and ".join(f"t.{quote(c.name)} = n.{quote(c.name)}" for c in sink.primary_key)
    source = f"(select {cast} from {_source(sink.columns, fence, first)}) n"
    return f"update {sink.table} as t set {merges} from {source} where {same}"


def _delete(sink: Sink, fence: str, first: int) -> str:
    same = " and ".join(f"t.{quote(c.name)} = {c.selected()}" for c in sink.primary_key)
    source = _source(sink.primary_key, fence, first)
    return f"delete from {sink.table} as t using {source} where {same}"
