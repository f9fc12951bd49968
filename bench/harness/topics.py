"""The topics that are drained: each is filled when the first program needs it, and then kept."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bench.harness import load
from bench.harness.databases import Row
from pipeline.local import Servers

PARTITIONS = 6

Encoding = Callable[[load.Records], load.Records]


@attrs.frozen
class Load:
    """What a topic holds.

    Attributes:
        size: bytes per value.
        encoding: changes the records before they are produced, for programs that need another
            format; the resulting rows must be the same.
        idempotency_keys: whether each record carries one of its own.
    """

    records: int
    keys: int = 100_000
    seed: int = 1
    partitions: int = PARTITIONS
    size: int = 200
    encoding: Encoding | None = None
    idempotency_keys: bool = False


@attrs.frozen
class Topic:
    """A filled topic, and the rows that must be in the table once it is drained."""

    name: str
    records: int
    expected: dict[int, Row]
    partitions: int = PARTITIONS


class Topics:
    """One topic per load."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self._filled: dict[Load, Topic] = {}

    def of(self, wanted: Load) -> Topic:
        """Return the topic with this load; it is created and filled at the first call."""
        if wanted not in self._filled:
            self._filled[wanted] = self._fill(wanted, f"bench-{len(self._filled)}")
        return self._filled[wanted]

    def _fill(self, wanted: Load, name: str) -> Topic:
        self.servers.create_topic(name, wanted.partitions)
        records = load.records(wanted.records, wanted.keys, wanted.seed, wanted.size)
        encoded = wanted.encoding(records) if wanted.encoding else records
        load.fill(self.servers.bootstrap, name, encoded, idempotency_keys=wanted.idempotency_keys)
        unpadded = load.records(wanted.records, wanted.keys, wanted.seed)
        return Topic(name, wanted.records, load.expected(unpadded), wanted.partitions)
