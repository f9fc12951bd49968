"""The handler of `bench.incident`: links subscriptions to their parents, which takes long for one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import trio

from bench.subjects.handling import batch
from bench.subjects.parent_totals import UPDATE
from pipeline import Record, Transaction, packed

SLOW = "select app, ms from slow"


async def apply(tx: Transaction, records: Sequence[Record]) -> None:
    """Upsert every record and add to its parent's total; wait as long as that parent's records take."""
    slow = {row["app"]: row["ms"] for row in await tx.fetch(SLOW)}
    totals = Counter(record.document["app_id"] for record in records)
    await trio.sleep(sum(slow.get(app, 0.0) * count for app, count in totals.items()) / 1000)
    await batch(tx, records)
    named = sorted(totals)
    tx.queue(UPDATE, *packed([named, [totals[app] for app in named]]))
