"""Records, and how values and ordering keys are found in them.

A `Record` wraps what the Kafka decoder yields and adds what the pipeline needs of it: the decoded
document and the ordering key. It is made once a record, so it is small (a compiled struct, which the
cycle collector need not look at), and what is rarely needed (headers, the raw value) stays in the
decoder's own object.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import msgspec

from pipeline.records.disposition import Disposition


class TopicPartition(NamedTuple):
    """A partition of a topic. Equal to, and hashes like, kafka-python's own of the same fields."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class RawRecord(Protocol):
    """What a Kafka decoder yields for one message."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Spans = Mapping[TopicPartition, tuple[int, int]]
"""A span of offsets, half-open, in each partition."""

FirstRecords = dict[TopicPartition, RawRecord | None]
"""The first record in each span; None where the span holds none (compacted, transactions' markers)."""


class RawBatch(Protocol):
    """Records of one partition that were fetched together, in offset order, not decoded yet.

    This is what waits in the consumer: as compact as it came from the broker, and one object.
    """

    def __len__(self) -> int:
        """How many records there are, or a few more where some lie before the start."""

    @property
    def size(self) -> int:
        """Bytes that it takes as it is."""

    def records(self) -> Sequence[RawRecord]:
        """Decode them. Called once.

        Raises:
            PipelineError: the bytes can't be read.
        """


class Record(msgspec.Struct, eq=False, gc=False):
    """One Kafka message on its way to Postgres.

    Attributes:
        source: the partition that it came from.
        offset: its place there.
        raw: the decoder's object, which holds key, value, headers and timestamp.
        document: the value, decoded: a `Row` where the store reads only some fields of it. None for
            a tombstone and where decoding failed.
        ordering: what orders it. One key: that key's value. Several: a tuple of (place, value).
        disposition: what is to become of it; None: it is to be applied.
    """

    source: TopicPartition
    offset: int
    raw: RawRecord
    document: Any
    ordering: Hashable
    disposition: Disposition | None = None

    @property
    def topic(self) -> str:
        return self.source.topic

    @property
    def partition(self) -> int:
        return self.source.partition

    @property
    def key(self) -> bytes | None:
        return self.raw.key

    @property
    def value(self) -> bytes | None:
        return self.raw.value

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        return self.raw.headers

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; by the producer's clock or the broker's, as the topic says."""
        return self.raw.timestamp

    def __str__(self) -> str:
        return f"{self.source} offset {self.offset}"


offset_of = attrgetter("offset")
