"""Replaying and dropping dead letters.

A chunk of dead letters is sent, acknowledged by all replicas, and only then marked as replayed, on the
dead letter topic itself. An interruption between the two, whatever its cause, leaves at most one chunk
(`CHUNK`) that was sent and is not marked; the next replay sends it again. It never leaves a dead letter
that is marked and was not sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import attrs
from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.errors import PipelineError, one_line
from pipeline.kafka.nulls import PutNullsBack, sendable
from pipeline.kafka.producer import make_producer
from pipeline.operate.cluster import Cluster
from pipeline.operate.deadletters import DROPPED, REPLAYED, REPLAYED_FROM, DeadLetter, marker
from pipeline.operate.exclusion import Check

CHUNK = 100
SEND_SECONDS = 30.0
CLOSE_SECONDS = 5.0

OnProgress = Callable[[int], object]
"""Called after each chunk, with the number of records that are done so far."""


@attrs.frozen
class Unit:
    """One record to send, and the dead letters that it stands for: nearly always one."""

    letters: tuple[DeadLetter, ...]

    @property
    def letter(self) -> DeadLetter:
        """The dead letter whose record is sent."""
        return self.letters[0]


def units_of(letters: Sequence[DeadLetter]) -> list[Unit]:
    """Group dead letters so that each record is there once; keep the order given."""
    together: dict[Any, list[DeadLetter]] = {}
    for letter in letters:
        together.setdefault(letter.record, []).append(letter)
    return [Unit(tuple(same)) for same in together.values()]


def replay(
    cluster: Cluster, letters: Sequence[DeadLetter], on_progress: OnProgress, check: Check
) -> int:
    """Send dead letters back to the partitions that they came from, in the order given.

    Returns how many records were sent. Blocks. ``letters`` are in the order of `find`; ``check`` is
    called before each chunk.

    Raises:
        PipelineError: a source partition does not exist (then nothing was sent); a send failed (what
            was sent before it is marked, the rest is for the next replay); or ``check`` raised it.
    """
    _check_sources(cluster, letters)
    units = units_of(letters)
    done = 0
    with _producer(cluster) as producer:
        for start in range(0, len(units), CHUNK):
            check()
            sent, failure = _send(producer, units[start : start + CHUNK])
            done += len(sent)
            _mark(producer, cluster.kafka.group_id, REPLAYED, [x for u in sent for x in u.letters])
            if failure is not None:
                raise failure
            on_progress(done)
    return done


def drop(
    cluster: Cluster, letters: Sequence[DeadLetter], on_progress: OnProgress, check: Check
) -> int:
    """Mark dead letters as dropped: they stay on their topic, and are no longer listed or replayed.

    Returns how many were marked. Blocks. ``check`` is called before each chunk.

    Raises:
        PipelineError: a marker could not be written, or ``check`` raised it.
    """
    done = 0
    with _producer(cluster) as producer:
        for start in range(0, len(letters), CHUNK):
            check()
            chunk = letters[start : start + CHUNK]
            _mark(producer, cluster.kafka.group_id, DROPPED, chunk)
            done += len(chunk)
            on_progress(done)
    return done


@contextmanager
def _producer(cluster: Cluster) -> Iterator[KafkaProducer]:
    producer = make_producer(cluster.kafka, cluster.client_id, value_serializer=PutNullsBack())
    try:
        yield producer
    finally:
        producer.close(timeout=CLOSE_SECONDS)


def _check_sources(cluster: Cluster, letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        if letter.omitted:
            raise PipelineError(
                f"dead letter {letter} was refused by its topic as it was, and has no value; the record is "
                f"{letter.source} offset {letter.source_offset}: nothing was replayed. Choose others, "
                "or drop it"
            )
    for topic in sorted({letter.source.topic for letter in letters}):
        there = set(cluster.partitions(topic))
        for letter in letters:
            if letter.source.topic == topic and letter.source not in there:
                raise PipelineError(
                    f"dead letter {letter} came from {letter.source}, a partition that topic "
                    f"{topic} does not have: nothing was replayed"
                )


def _send(producer: Any, units: Sequence[Unit]) -> tuple[list[Unit], PipelineError | None]:
    """Send a chunk; return what was acknowledged, and what went wrong."""
    futures: list[tuple[Unit, Any]] = []
    failure: PipelineError | None = None
    for unit in units:
        try:
            futures.append((unit, _start(producer, unit.letter)))
        except (KafkaError, AssertionError) as error:
            failure = _failed(unit.letter, error)
            break
    sent = []
    with suppress(KafkaError):  # the futures tell which were acknowledged
        producer.flush(timeout=SEND_SECONDS)
    for unit, future in futures:
        try:
            future.get(timeout=SEND_SECONDS if future.is_done else 0.01)
        except KafkaError as error:
            failure = failure or _failed(unit.letter, error)
        else:
            sent.append(unit)
    return sent, failure


def _start(producer: Any, letter: DeadLetter) -> Any:
    origin = (REPLAYED_FROM, str(letter).encode())
    return producer.send(
        letter.source.topic,
        partition=letter.source.partition,
        key=letter.key,
        **sendable(letter.value, [*letter.own_headers, origin]),
        timestamp_ms=letter.timestamp if letter.timestamp >= 0 else None,
    )


def _failed(letter: DeadLetter, error: BaseException) -> PipelineError:
    return PipelineError(
        f"dead letter {letter} could not be sent to {letter.source}: {one_line(error)}. "
        "What was sent before it is marked as replayed; to go on, replay again"
    )


def _mark(producer: Any, group: str, what: str, letters: Sequence[DeadLetter]) -> None:
    """Write a marker to each partition that holds any of these; wait until all replicas have it."""
    by_place = defaultdict(list)
    for letter in letters:
        by_place[letter.place].append(letter)
    futures = [
        producer.send(place.topic, partition=place.partition, **marker(group, what, those))
        for place, those in by_place.items()
    ]
    producer.flush(timeout=SEND_SECONDS)
    for future in futures:
        future.get(timeout=SEND_SECONDS)
