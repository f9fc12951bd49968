"""The handlers of `bench.contention`: each record writes its own row, and adds to its account's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.subjects.handling import UPSERT, batch, row
from pipeline import Record, Transaction, packed, unpacked

ADD = "update parents set total = total + $2 where app = $1"
ADD_SORTED = f"""\
insert into parents as p (app, total)
select named, more from unnest({unpacked(["text", "bigint"])}) u(named, more)
on conflict (app) do update set total = p.total + excluded.total"""


async def in_order(tx: Transaction, records: Sequence[Record]) -> None:
    """Write both rows of each record, as the records come."""
    for record in records:
        tx.queue(UPSERT, *row(record.document))
        tx.queue(ADD, record.document["app_id"], 1)


async def by_account(tx: Transaction, records: Sequence[Record]) -> None:
    """Write the rows of a whole batch, and then each account once, sorted."""
    await batch(tx, records)
    totals = Counter(record.document["app_id"] for record in records)
    named = sorted(totals)
    tx.queue(ADD_SORTED, *packed([named, [totals[app] for app in named]]))
