"""Where a rewind goes: what the operator names, and the offset that it stands for in each partition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, get_args

from pipeline.config.model import Config
from pipeline.errors import PipelineError, UsageError
from pipeline.operate.cluster import Cluster, Committed
from pipeline.operate.moments import parse_moment
from pipeline.records.record import TopicPartition

Word = Literal["earliest", "latest", "committed"]
Target = Word | int | datetime

WORDS: dict[str, Word] = {word: word for word in get_args(Word)}


def parse_target(text: str) -> Target:
    """Return the target that a text names: an offset, a word of `WORDS`, a time or an age.

    Raises:
        ValueError: the text is none of these; the message says what is expected.
    """
    if text.isdecimal():
        return int(text)
    if text in WORDS:
        return WORDS[text]
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise ValueError(f"{error}; or an offset, earliest, latest or committed") from None


def choose_partitions(
    cluster: Cluster, config: Config, topic: str | None, partition: int | None
) -> list[TopicPartition]:
    """Return all partitions of the configured topics, or only those of ``topic`` or ``partition``.

    Raises:
        UsageError: a partition does not exist, or a topic is not configured.
        PipelineError: no shard covers a partition.
    """
    if topic is not None and topic not in config.kafka.topics:
        known = ", ".join(config.kafka.topics)
        raise UsageError(f"{topic} is not among the configured topics: {known}")
    topics = config.kafka.topics if topic is None else (topic,)
    sources = [source for name in topics for source in cluster.partitions(name)]
    if partition is not None:
        chosen = [source for source in sources if source.partition == partition]
        if not chosen:
            raise UsageError(f"there is no partition {partition} in {', '.join(topics)}")
        sources = chosen
    for source in sources:
        try:
            config.shard_for(source.partition)
        except LookupError as error:
            raise PipelineError(f"{source}: {error}") from error
    return sources


def resolve(
    cluster: Cluster, target: Target, committed: Mapping[TopicPartition, Committed],
    bounds: Mapping[TopicPartition, tuple[int, int]],
) -> dict[TopicPartition, int]:  # fmt: skip
    """Return the offset that the target stands for in each partition of ``bounds``.

    Raises:
        UsageError: the offset is outside the log, or the target has no meaning for a partition.
    """
    if isinstance(target, datetime):
        found = cluster.offsets_at(bounds, target)
        ends = {source: end for source, (_, end) in bounds.items()}
        return {source: ends[source] if at is None else at for source, at in found.items()}
    if isinstance(target, int) and len(bounds) > 1:
        raise UsageError(
            "an offset means another record in each partition: name one with --partition "
            "(and --topic, if there are several)"
        )
    return {
        source: _resolve(target, source, committed.get(source), *span)
        for source, span in bounds.items()
    }


def _resolve(
    target: Word | int, source: TopicPartition, committed: Committed | None, start: int, end: int
) -> int:
    match target:
        case "earliest":
            return start
        case "latest":
            return end
        case "committed":
            if committed is None:
                raise UsageError(f"{source}: the group has committed no offset there")
            offset = committed.offset
        case offset:
            pass
    if not start <= offset <= end:
        raise UsageError(f"{source}: offset {offset} is not in the log, {start} to {end}")
    return offset
