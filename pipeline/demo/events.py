"""Session events as the users of a busy app make them, and the rows that they must amount to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import attrs
import orjson

from pipeline.partitioner import partition_for

TENANTS = 64
USERS = 20_000
HOT_TENANT = 5
HOT_SHARE = 0.1
"""The share of all events that one user makes, as a stuck client would."""

PARTITIONS = 6
TAGS = {
    "platform": ("ios", "android", "web", "tv"),
    "plan": ("free", "plus", "pro"),
    "country": ("ba", "de", "in", "jp", "us"),
    "version": ("5.1.0", "5.1.1", "5.2.0"),
}
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK_ERROR_SECONDS = 30.0
"""Devices' clocks disagree, so the newest event seldom has the latest time: hence merge ``max``."""


@attrs.frozen
class Event:
    """A session of one user. ``number`` counts all events from 0; ``tags`` are those it changes."""

    number: int
    id: int
    tenant: str
    last_seen: datetime
    tags: dict[str, Any]

    def value(self) -> bytes:
        """Return the message's value."""
        return orjson.dumps(
            {
                "id": self.id,
                "app_id": self.tenant,
                "session_count": 1,
                "last_seen": self.last_seen,
                "tags": self.tags,
                "number": self.number,
            }
        )


@attrs.define
class Subscription:
    """A row of ``public.subscriptions``, without its id."""

    app_id: str
    session_count: int
    last_seen: datetime
    tags: dict[str, Any]
    last_event: int


def events(seed: int) -> Iterator[Event]:
    """Yield events without end. Tenant n has 1/n of the users of the largest: Zipf's law."""
    choose = random.Random(seed)
    weights = [1 / rank for rank in range(1, TENANTS + 1)]
    whole = sum(weights)
    users = [max(3, int(USERS * weight / whole)) for weight in weights]
    thresholds = [sum(weights[: rank + 1]) for rank in range(TENANTS)]
    tenants, number = range(TENANTS), 0
    while True:
        if choose.random() < HOT_SHARE:
            tenant, user = HOT_TENANT, 0
        else:
            (tenant,) = choose.choices(tenants, cum_weights=thresholds)
            user = choose.randrange(users[tenant])
        seen = BEGINNING + timedelta(
            milliseconds=number, seconds=choose.uniform(-CLOCK_ERROR_SECONDS, CLOCK_ERROR_SECONDS)
        )
        tag = choose.choice(list(TAGS))
        tags = {tag: choose.choice(TAGS[tag])}
        yield Event(number, tenant * 1_000_000 + user, f"app-{tenant:02}", seen, tags)
        number += 1


@cache
def partition_of(tenant: str) -> int:
    """Return the partition that Kafka's default partitioner puts a tenant's messages in."""
    return partition_for(tenant.encode(), PARTITIONS)


class Model:
    """The rows that the events amount to, applied one at a time, in the order they were made."""

    def __init__(self) -> None:
        self.rows: dict[int, Subscription] = {}

    def apply(self, event: Event) -> None:
        """Change the row of an event."""
        row = self.rows.get(event.id)
        if row is None:
            self.rows[event.id] = Subscription(
                event.tenant, 1, event.last_seen, dict(event.tags), event.number
            )
            return
        row.session_count += 1
        row.last_seen = max(row.last_seen, event.last_seen)
        row.tags.update(event.tags)
        row.last_event = event.number
