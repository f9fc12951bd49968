"""Records, and how values and ordering keys are found in them.

A `Record` wraps what the Kafka decoder yields and adds what the pipeline needs of it: the decoded
document and the ordering key. There is one per message, so it is small (a compiled struct, which the
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
"""The first record in each span; None if the span holds none (compacted, transactions' markers)."""


class RawBatch(Protocol):
    """Records of one partition that were fetched together, in offset order, not decoded yet.

    This is what waits in the consumer: as compact as it came from the broker, and one object.
    """

    def __len__(self) -> int:
        """Return how many records there are, or a few more if some lie before the start."""

    @property
    def size(self) -> int:
        """The bytes that the batch takes while it is not decoded."""

    def records(self) -> Sequence[RawRecord]:
        """Decode the records. May be called once.

        Raises:
            PipelineError: the bytes can't be read.
        """


class Record(msgspec.Struct, eq=False, gc=False):
    """One Kafka message on its way to Postgres.

    Attributes:
        source: the partition that it came from.
        offset: its place there.
        raw: the decoder's object, which holds key, value, headers and timestamp.
        document: the value, decoded. A `Row` if the store reads only some fields of it; None for a
            tombstone, and if it could not be decoded.
        ordering: what orders the record. With one key: that key's value. With several: a tuple of
            (place, value).
        disposition: what is to become of the record; None: it is to be applied.
    """

    source: TopicPartition
    offset: int
    raw: RawRecord
    document: Any
    ordering: Hashable
    disposition: Disposition | None = None

    @property
    def topic(self) -> str:
        """The name of the topic that the record came from."""
        return self.source.topic

    @property
    def partition(self) -> int:
        """The number of the partition that the record came from."""
        return self.source.partition

    @property
    def key(self) -> bytes | None:
        """The message key as it was sent."""
        return self.raw.key

    @property
    def value(self) -> bytes | None:
        """The message's value as it was sent; None for a tombstone."""
        return self.raw.value

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The names and values of the message's headers, in order."""
        return self.raw.headers

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch, by the producer's clock or the broker's, as the topic says."""
        return self.raw.timestamp

    def __str__(self) -> str:
        return f"{self.source} offset {self.offset}"


offset_of = attrgetter("offset")
