"""The merge rules: how a newer value of a column meets an older one, a row a rule.

A merge is said twice: once for Python, which folds the records of a batch into one row, and once for
Postgres, which merges that row with the stored one. Both must agree, so that the result is the same
whatever the batches were. They stand beside each other here for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

Fold = Callable[[Any, Any], Any]
"""(older, newer) → what both amount to; either may be None, for null."""

INTEGERS = frozenset({"int2", "int4", "int8"})
FLOATS = frozenset({"float4", "float8"})
TEXTS = frozenset({"text", "varchar"})
TIMES = frozenset({"timestamptz", "timestamp", "date"})
NUMBERS = INTEGERS | FLOATS | {"numeric"}
COMPARABLE = NUMBERS | TEXTS | TIMES


@attrs.frozen
class Merge:
    """One rule.

    Attributes:
        name: as the configuration calls it.
        fold: what Python makes of two values of a batch.
        sql: what Postgres makes of the stored value ``{t}`` and the newer one ``{e}``.
        text_sql: the same for text, if Python compares it otherwise than Postgres does.
        suits: the types that it can take, by their names in the catalog; None: every type.
        parsed: whether its values must be parsed here, since they are compared or added.
        counts_again: whether a record that is applied again changes the row again.
    """

    name: str
    fold: Fold
    sql: str
    text_sql: str | None = None
    suits: frozenset[str] | None = None
    parsed: bool = False
    counts_again: bool = False

    def merged(self, stored: str, newer: str, base: str) -> str:
        """SQL of two values of type ``base`` merged."""
        pattern = self.text_sql if self.text_sql and base in TEXTS else self.sql
        return pattern.format(t=stored, e=newer)


def either(fold: Fold) -> Fold:
    """The same fold, to which null changes nothing."""

    def folded(older: Any, newer: Any) -> Any:
        if older is None:
            return newer
        return older if newer is None else fold(older, newer)

    return folded


MERGES: Mapping[str, Merge] = {
    merge.name: merge
    for merge in (
        Merge("last", lambda _, newer: newer, "{e}"),
        Merge("first", lambda older, newer: newer if older is None else older, "coalesce({t}, {e})"),
        Merge("coalesce", lambda older, newer: older if newer is None else newer,
              "coalesce({e}, {t})"),
        Merge("add", either(lambda older, newer: older + newer), "coalesce({t} + {e}, {e}, {t})",
              suits=NUMBERS, parsed=True, counts_again=True),
        Merge("max", either(max), "greatest({t}, {e})",
              text_sql='greatest({t} collate "C", {e} collate "C")',
              suits=COMPARABLE, parsed=True),
        Merge("min", either(min), "least({t}, {e})",
              text_sql='least({t} collate "C", {e} collate "C")',
              suits=COMPARABLE, parsed=True),
        Merge("jsonb", either(lambda older, newer: {**older, **newer}),
              "case when jsonb_typeof({t}) = 'object' then coalesce({t} || {e}, {t}) "
              "else coalesce({e}, {t}) end", suits=frozenset({"jsonb"})),
    )
}  # fmt: skip
"""The rules by name; text is compared as Python compares it, by code points (collation C)."""
