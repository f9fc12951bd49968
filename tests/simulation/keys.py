"""Idempotency keys in the simulation: ``pipeline.idempotency_keys`` of a server, and the law of them.

The choice of what is applied is the real one (`IdempotencyKeys.select`); the table is a dictionary that
changes in the step that applies.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pipeline.contracts.store import Claim
from pipeline.postgres.ledger.keys import IdempotencyKeys, Place, Selection
from pipeline.records.idempotency import key_digest
from pipeline.records.path import Path
from pipeline.records.record import Record, TopicPartition
from tests.simulation.world import World

HEADER = "idempotency-key"

Key = str
KeyOf = Mapping[tuple[TopicPartition, int], Key]
"""The key of each record that has one."""

_KEYS = IdempotencyKeys(key_digest(Path.parse(f"@header:{HEADER}"), None), lambda *_: None)


class SimulatedKeys:
    """Which keys were applied, and where."""

    def __init__(self, known: Mapping[str, Place] | None = None) -> None:
        self._known: dict[str, Place] = dict(known or {})

    def copied(self) -> SimulatedKeys:
        """What a standby has of them."""
        return SimulatedKeys(self._known)

    def select(self, claim: Claim, records: Sequence[Record]) -> Selection:
        """What of these records is to be applied."""
        return _KEYS.select(claim, records, self._known)

    def claim(self, claim: Claim, selection: Selection) -> None:
        """Insert the keys that are selected."""
        for key, offset in zip(selection.keys, selection.offsets, strict=True):
            self._known.setdefault(key, (claim.topic_id, claim.source.partition, offset))


def check_keys(
    world: World,
    name: str,
    applied: Mapping[tuple[TopicPartition, int], int],
    good: Mapping[TopicPartition, Mapping[int, str]],
    key_of: KeyOf,
) -> None:
    """Of the records of one key that can be applied, one was.

    Args:
        name: of the server.
        applied: how often each record was applied there.
        good: the records of its partitions that can be applied.
        key_of: the records' keys.
    """
    times: Counter[Key] = Counter()
    of_key: dict[Key, list[str]] = defaultdict(list)
    for source, rows in good.items():
        for offset in rows:
            key = key_of.get((source, offset))
            if key is not None:
                times[key] += applied.get((source, offset), 0)
                of_key[key].append(f"{source} offset {offset}")
    for key, places in of_key.items():
        if times[key] != 1:
            world.violated(f"{name}: key {key} was applied {times[key]} times, of {places}")
