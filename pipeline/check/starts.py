"""Where each partition would begin and why, by the rules of `run`; and which have changed shards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import attrs

from pipeline.check.databases import ShardFacts
from pipeline.config.kinds import show_partitions
from pipeline.config.mistakes import Mistake
from pipeline.config.model import Config
from pipeline.consumer.starting_offset import starting_offset
from pipeline.contracts.kafka import Position
from pipeline.contracts.lane import Lane
from pipeline.contracts.store import AppliedOffsets
from pipeline.errors import PipelineError
from pipeline.records.record import TopicPartition


@attrs.frozen
class PartitionStart:
    """Where a partition would begin.

    Attributes:
        offset: the first offset that is read; None: `run` could not begin there.
        why: what this offset is, or why there is none.
        waiting: how many offsets there are from there to the log's end.
        notes: what `run` would warn of.
    """

    source: TopicPartition
    offset: int | None
    why: str
    waiting: int = 0
    notes: tuple[str, ...] = ()


def find_starts(
    config: Config,
    positions: Mapping[TopicPartition, Position],
    topic_ids: Mapping[str, UUID],
    shards: Sequence[ShardFacts],
) -> list[PartitionStart]:
    """Return the start of every partition that Kafka has told the position of, in order."""
    by_name = {shard.config.name: shard for shard in shards}
    found = []
    for source, position in sorted(positions.items()):
        try:
            shard = by_name[config.shard_for(source.partition).name]
        except LookupError:
            continue  # a mistake of its own
        topic_id = topic_ids[source.topic]
        key = _key(config, source, topic_id)
        applied = shard.applied.get(key, AppliedOffsets())
        lanes = [entry.lane for entry in shard.lanes.get(key, ())]
        found.append(_start(source, applied, position, topic_id, lanes))
    return found


def start_mistakes(starts: Sequence[PartitionStart]) -> Iterator[Mistake]:
    """Yield the partitions that `run` could not begin."""
    for start in starts:
        if start.offset is None:
            yield Mistake("kafka.topics", start.why)


def start_warnings(starts: Sequence[PartitionStart]) -> Iterator[Mistake]:
    """Yield what `run` would warn of."""
    for start in starts:
        for note in start.notes:
            yield Mistake("", note)


def moved_partitions(
    config: Config, topic_ids: Mapping[str, UUID], shards: Sequence[ShardFacts]
) -> Iterator[Mistake]:
    """Yield the partitions that have been applied to a shard which is not theirs any more."""
    by_name = {shard.config.name: shard for shard in shards}
    for former in shards:
        for topic, topic_id in topic_ids.items():
            moved: dict[str, list[int]] = {}
            for (stream, of, partition), applied in former.applied.items():
                if (stream, of) != (f"{config.kafka.group_id}/{topic}", topic_id):
                    continue
                own = _shard_of(config, partition)
                if own in by_name and _elsewhere(former, by_name[own]) and _any(applied):
                    moved.setdefault(own, []).append(partition)
            for own, partitions in moved.items():
                yield _moved(f"{config.kafka.group_id}/{topic}", former, own, sorted(partitions))


def _moved(stream: str, former: ShardFacts, own: str, partitions: Sequence[int]) -> Mistake:
    name, topic = former.config.name, stream.partition("/")[2]
    one = len(partitions) == 1
    of = "partition" if one else "partitions"
    listed = ", ".join(map(str, partitions))
    return Mistake(
        f"shards[{own}].partitions",
        f"{of} {show_partitions(partitions)} of topic {topic} {'was' if one else 'were'} applied to shard "
        f"{name}, whose rows would stay behind while {own} begins without them: give the {of} back "
        f"to {name}; or stop all instances, copy the rows to {own}, and let {name} forget: delete "
        f"from pipeline.applied where stream = '{stream}' and partition in ({listed})",
    )


def _elsewhere(one: ShardFacts, other: ShardFacts) -> bool:
    """Whether two shards are different databases."""
    return (one.server, one.database) != (other.server, other.database)


def _any(applied: AppliedOffsets) -> bool:
    return bool(applied.watermark or applied.above)


def _shard_of(config: Config, partition: int) -> str | None:
    try:
        return config.shard_for(partition).name
    except LookupError:
        return None


def _key(config: Config, source: TopicPartition, topic_id: UUID) -> tuple[str, UUID, int]:
    return f"{config.kafka.group_id}/{source.topic}", topic_id, source.partition


class _Told(logging.Handler):
    """Keeps what `starting_offset` logs: at INFO where it starts and why, above that its warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.why = ""
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.INFO:
            self.notes.append(record.getMessage())
        else:
            self.why = record.getMessage().partition(": ")[2]


def _start(
    source: TopicPartition, applied: AppliedOffsets, position: Position, topic_id: UUID,
    lanes: Sequence[Lane],
) -> PartitionStart:  # fmt: skip
    told = _Told()
    listener = logging.Logger("pipeline.check.starts", logging.INFO)
    listener.addHandler(told)
    try:
        start = starting_offset(source, applied, position, topic_id, lanes=lanes, log=listener)
    except PipelineError as error:
        return PartitionStart(source, None, str(error), 0, tuple(told.notes))
    waiting = max(0, position.end - start.offset)
    return PartitionStart(source, start.offset, told.why, waiting, tuple(told.notes))
