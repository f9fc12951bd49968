"""The handler of `bench.sync_async`: what the synchronous endpoint writes, for a batch of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline import Record, Transaction, packed, unpacked

INSERT = f"""\
insert into writes (n, app, queued_at)
select n, app, to_timestamp(queued_at / 1000.0)
from unnest({unpacked(["bigint", "text", "bigint"])}) u(n, app, queued_at)"""

UPDATE = f"""\
update parents set total = total + more
from unnest({unpacked(["text", "bigint"])}) u(named, more) where app = named"""


async def apply(tx: Transaction, records: Sequence[Record]) -> None:
    """Insert every record; add to each parent once, however many of its records there are."""
    documents = [record.document for record in records]
    numbers = [document["n"] for document in documents]
    apps = [document["app"] for document in documents]
    tx.queue(INSERT, *packed([numbers, apps, [record.timestamp for record in records]]))
    totals = Counter(apps)
    named = sorted(totals)
    tx.queue(UPDATE, *packed([named, [totals[app] for app in named]]))
