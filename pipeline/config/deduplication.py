"""Which records are the same write, sent again: ``records.idempotency_key`` and ``records.dedupe_for``."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from pipeline.config.mistakes import Mistake
from pipeline.config.model import Config
from pipeline.records.path import Path

HEADER = "@header:idempotency-key"
"""Where the key is unless the configuration says otherwise: where `pipeline ingest` puts it."""


@frozen
class Deduplication:
    """How a record that was sent again is recognised.

    Attributes:
        key: the path of its key.
        tenant: the path of whom the key belongs to; None: keys are everybody's.
        seconds: how long a key is remembered, at least.
    """

    key: Path
    tenant: Path | None
    seconds: float

    @property
    def reads(self) -> tuple[Path, ...]:
        """The paths into the value that are read of each record."""
        found = (self.key, self.tenant)
        return tuple(path for path in found if path is not None and path.in_value)


def deduplication(config: Config) -> Deduplication | None:
    """Return how records that were sent again are recognised; None: they are not looked for."""
    records, ingest = config.records, config.ingest
    if records.dedupe_for is None:
        return None
    tenant = records.tenant or (ingest.tenant if ingest is not None else None)
    return Deduplication(
        Path.parse(records.idempotency_key or HEADER),
        None if tenant is None else Path.parse(tenant),
        records.dedupe_for,
    )


def check_deduplication(config: Config) -> Iterator[Mistake]:
    """Keys are kept in the ledger, and have a use only while they are remembered."""
    records = config.records
    if records.dedupe_for is None and records.idempotency_key is not None:
        why = 'has no use without records.dedupe_for, such as "24h": how long a key is remembered'
        yield Mistake("records.idempotency_key", why)
    if records.dedupe_for is not None and not config.pipeline.exactly_once:
        why = (
            'needs the ledger, which pipeline.delivery = "at-least-once" does without: a key that is '
            "remembered in another transaction than its record's can be applied twice, or lost"
        )
        yield Mistake("records.dedupe_for", why)
