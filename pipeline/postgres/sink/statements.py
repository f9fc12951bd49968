"""The SQL of the declared sink, with and without the ledger around it.

Under exactly-once a statement carries the fence, the ledger's row and the data together: one round trip
and no explicit BEGIN. Its first parameters are those of the ledger's `guard`; those of the data are as
`packing.packed` gives them.

**MERGE.** ``insert … on conflict do update`` asks the table's conditions (not null, check, row security,
triggers) of the row as it is proposed, before it knows that the row is there: a negative amount that is
added to a balance would be refused though the balance stays right. MERGE asks them of the row that is
stored. It refuses two rows of one target (SQLSTATE 21000, or 23505 if both are new), where ``update …
from`` takes either of them. Domains are left to the assignment for the same reason. What can't be the
target of MERGE (views before PostgreSQL 17, tables with rules, foreign tables) is written by
``on conflict`` as before; `catalog.Table.mergeable` decides.

**Columns that change.** The statement casts to the types that the columns had when it was made, and one
for absent fields holds their defaults. So it writes only if both are still these, as it finds them within
its own snapshot (`Statements.same_columns`); otherwise it writes nothing, no ledger's row either, and the
applier reads the catalog anew. Defaults are looked at only where a field is absent.

A statement that wrote no row answers 0, be it fenced, made for other types, or without anything to do;
the applier asks which.

**Absent fields.** If some row of the batch lacks a field that is to be kept, the statement is the sparse
one of its kind: one more array says, by a digit a column, which values a row has.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.postgres.ledger.keys import CLAIM_PARAMETERS, claiming
from pipeline.postgres.ledger.lease import FENCE, GUARD_PARAMETERS, RECORD_APPLIED
from pipeline.postgres.sink.catalog import DEFAULT, IDENTITY, WITH_DEFAULT
from pipeline.postgres.sink.columns import SinkColumn, quote
from pipeline.postgres.sink.packing import unpacked
from pipeline.postgres.sink.sink import SPARSE, Sink

PRESENT = quote("which values are present")


class Statements:
    """The sink's statements by the kind of `sink.Write`.

    ``guarded`` carry the ledger's fence and its row; ``plain`` do without, for at-least-once and for what
    follows a guarded statement in one transaction. ``claiming`` are guarded ones that claim idempotency
    keys too, and write nothing if one is another record's.
    """

    def __init__(self, sink: Sink) -> None:
        self.same_columns = _same_columns(sink, defaults=True)
        """SQL that is true while the columns are those that the statements were made for."""
        kinds = ["insert" if sink.mode == "insert" else "upsert"]
        kinds += [kinds[0] + SPARSE]
        if sink.deletes:  # a role without the right to delete is asked for none
            kinds.append("delete")
        first = GUARD_PARAMETERS + 1
        self.plain = {kind: _plain(sink, kind) + _data(sink, kind, 1) for kind in kinds}
        self.guarded = {kind: _guarded(sink, kind) + _data(sink, kind, first) for kind in kinds}
        first += CLAIM_PARAMETERS
        self.claiming = {kind: _claiming(sink, kind) + _data(sink, kind, first) for kind in kinds}


def _plain(sink: Sink, kind: str) -> str:
    return f"with fence as (select where {_same_for(sink, kind)})\n"


def _guarded(sink: Sink, kind: str) -> str:
    return (
        f"with lease as ({FENCE}),\nfence as (select from lease where {_same_for(sink, kind)}),\n"
        f"ledger as ({RECORD_APPLIED} from fence)\n"
    )


def _claiming(sink: Sink, kind: str) -> str:
    return f"{claiming(_same_for(sink, kind))},\nledger as ({RECORD_APPLIED} from fence)\n"


def _same_for(sink: Sink, kind: str) -> str:
    return _same_columns(sink, defaults=kind.endswith(SPARSE))


def _data(sink: Sink, kind: str, first: int) -> str:
    if kind == "delete":
        return _delete(sink, first)
    sparse = kind.endswith(SPARSE)
    if sink.mode == "insert":
        return _insert(sink, first, sparse=sparse)
    if sink.mergeable:
        return _merge(sink, first, sparse=sparse)
    return _update(sink, first) if sink.mode == "update" else _upsert(sink, first)


def _same_columns(sink: Sink, *, defaults: bool) -> str:
    same = _same(sink, sink.columns, IDENTITY, [column.identity for column in sink.columns])
    kept = [column for column in sink.columns if column.keeps]
    if not defaults or not kept:
        return same
    return f"{same} and {_same(sink, kept, DEFAULT, [column.default for column in kept])}"


def _same(sink: Sink, columns: Sequence[SinkColumn], of: str, known: Sequence[str]) -> str:
    """SQL that is true if something of each column (``of``: SQL of it) is what is known of it."""
    names = ", ".join(_literal(column.name) for column in columns)
    pairs = zip(columns, known, strict=True)
    texts = ", ".join(sorted(f"{column.name} {text}" for column, text in pairs))
    told = f"a.attname || ' ' || {of}"
    joined = WITH_DEFAULT if of == DEFAULT else ""
    found = (
        f"select string_agg({told}, ', ' order by ({told}) collate \"C\") "
        f"from pg_attribute a{joined} "
        f"where a.attrelid = {_literal(sink.table)}::regclass "
        f"and not a.attisdropped and a.attname in ({names})"
    )
    return f"({found}) = {_literal(texts)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _source(columns: Sequence[SinkColumn], first: int, *, sparse: bool = False) -> str:
    types, names = [column.array for column in columns], _names(columns)
    if sparse:
        types, names = [*types, "text"], f"{names}, {PRESENT}"
    return f"fence, unnest({unpacked(types, first)}) u({names})"


def _names(columns: Sequence[SinkColumn]) -> str:
    return ", ".join(quote(column.name) for column in columns)


def _rest(sink: Sink) -> list[SinkColumn]:
    return [column for column in sink.columns if column not in sink.primary_key]


def _present(sink: Sink, column: SinkColumn, row: str) -> str:
    return f"substr({row}.{PRESENT}, {sink.columns.index(column) + 1}, 1) = '1'"


def _or_default(sink: Sink, column: SinkColumn, row: str, value: str) -> str:
    if not column.keeps:
        return value
    return f"case when {_present(sink, column, row)} then {value} else {column.default} end"


def _into(sink: Sink, first: int, *, sparse: bool = False) -> str:
    selected = ", ".join(
        _or_default(sink, c, "u", c.selected()) if sparse else c.selected() for c in sink.columns
    )
    overriding = " overriding system value" if sink.overriding else ""
    return (
        f"insert into {sink.table} as t ({_names(sink.columns)}){overriding}\n"
        f"select {selected} from {_source(sink.columns, first, sparse=sparse)}"
    )


def _insert(sink: Sink, first: int, *, sparse: bool) -> str:
    """What is there already stays; a conflict with another unique index is a record's mistake."""
    target = f" ({_names(sink.primary_key)})" if sink.primary_key else ""
    return f"{_into(sink, first, sparse=sparse)}\non conflict{target} do nothing"


def _merge(sink: Sink, first: int, *, sparse: bool) -> str:
    cast = [f"{column.selected()} as {quote(column.name)}" for column in sink.columns]
    if sparse:
        cast.append(f"u.{PRESENT}")
    source = f"select {', '.join(cast)} from {_source(sink.columns, first, sparse=sparse)}"
    same = " and ".join(f"t.{quote(c.name)} = n.{quote(c.name)}" for c in sink.primary_key)
    merges = []
    for column in _rest(sink):
        merged = column.merged("t", "n")
        if sparse and column.keeps:
            merged = (
                f"case when {_present(sink, column, 'n')} then {merged} "
                f"else t.{quote(column.name)} end"
            )
        merges.append(f"{quote(column.name)} = {merged}")
    update = f"update set {', '.join(merges)}" if merges else "do nothing"
    text = f"merge into {sink.table} as t using ({source}) n on {same}\nwhen matched then {update}"
    if sink.mode == "update":
        return text
    values = [f"n.{quote(column.name)}" for column in sink.columns]
    if sparse:
        pairs = zip(sink.columns, values, strict=True)
        values = [_or_default(sink, column, "n", value) for column, value in pairs]
    overriding = " overriding system value" if sink.overriding else ""
    return (
        f"{text}\nwhen not matched then insert ({_names(sink.columns)}){overriding} "
        f"values ({', '.join(values)})"
    )


def _upsert(sink: Sink, first: int) -> str:
    merges = ", ".join(f"{quote(c.name)} = {c.merged('t', 'excluded')}" for c in _rest(sink))
    conflict = f"on conflict ({_names(sink.primary_key)})"
    return f"{_into(sink, first)}\n{conflict} do " + (
        f"update set {merges}" if merges else "nothing"
    )


def _update(sink: Sink, first: int) -> str:
    cast = ", ".join(f"{column.selected()} as {quote(column.name)}" for column in sink.columns)
    columns = _rest(sink) or sink.primary_key
    merges = ", ".join(f"{quote(c.name)} = {c.merged('t', 'n')}" for c in columns)
    same = " and ".join(f"t.{quote(c.name)} = n.{quote(c.name)}" for c in sink.primary_key)
    source = f"(select {cast} from {_source(sink.columns, first)}) n"
    return f"update {sink.table} as t set {merges} from {source} where {same}"


def _delete(sink: Sink, first: int) -> str:
    same = " and ".join(f"t.{quote(c.name)} = {c.selected()}" for c in sink.primary_key)
    return f"delete from {sink.table} as t using {_source(sink.primary_key, first)} where {same}"
