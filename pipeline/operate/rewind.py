"""Rewinding: the group's offsets and the ledgers moved together, while no instance runs.

The order of the steps, and why a crash between any two of them is safe:

1. The group must be empty, and what each ledger holds is read, with the epochs.
2. The group's offsets are set in Kafka, which refuses if a member has joined since. A crash after this
   leaves the ledgers as they were, and an instance that starts then believes them: going back, it
   begins where it would have begun (and says that the group's offset was set back from outside);
   skipping, it begins at the new offset, as was wished. Nothing is applied twice. The other way
   round it would be: the ledger would have forgotten what was applied out of order above the group's
   offset, where that instance begins.
3. Each shard's ledger is reset in one transaction, and only if no epoch has changed since step 1: an
   instance that started in between is found out and keeps what it has. A crash between two shards
   leaves some partitions moved and others not; each is consistent by itself.

Run again, the command finishes, best with ``committed`` as the target: Kafka has all of the new offsets
then, and a partition that is done already has nothing left to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import attrs

from pipeline.config.model import Config
from pipeline.contracts import commit_metadata as metadata
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError
from pipeline.operate.cluster import Cluster, Committed
from pipeline.operate.ledgers import Reset
from pipeline.operate.moments import parse_moment
from pipeline.postgres.ledger.reading import LedgerEntry, Ranges
from pipeline.records.record import TopicPartition

Word = Literal["earliest", "latest", "committed"]
Target = Word | int | datetime

WORDS: dict[str, Word] = {word: word for word in get_args(Word)}

IDLE_STATES = ("Empty", "Dead")


@attrs.frozen
class Change:
    """What happens to one partition.

    Attributes:
        source: topic and partition.
        shard: the name of the shard that it writes to.
        begin: where an instance would begin now.
        to: where it will begin.
        again: how many applied offsets will be applied again, at most (compaction leaves holes).
        skipped: how many offsets that are not applied will never be.
        applied: what stays known as applied from ``to`` on. Going back forgets all of it, for that
            is what going back is for; skipping keeps it, for it would be applied again otherwise.
        epochs: the ledger's, when it was read.
    """

    source: TopicPartition
    shard: str
    begin: int
    to: int
    again: int
    skipped: int
    applied: Ranges
    epochs: tuple[tuple[int, int], ...]


def parse_target(text: str) -> Target:
    """An offset, a moment, or a word.

    Raises:
        ValueError: it is none of these; the message says what is expected.
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
    """The partitions meant: all of the configured topics, or those named.

    Raises:
        PipelineError: one is not there, or not configured.
    """
    if topic is not None and topic not in config.kafka.topics:
        known = ", ".join(config.kafka.topics)
        raise PipelineError(f"{topic} is not among the configured topics: {known}")
    topics = config.kafka.topics if topic is None else (topic,)
    sources = [source for name in topics for source in cluster.partitions(name)]
    if partition is not None:
        chosen = [source for source in sources if source.partition == partition]
        if not chosen:
            raise PipelineError(f"there is no partition {partition} in {', '.join(topics)}")
        sources = chosen
    for source in sources:
        try:
            config.shard_for(source.partition)
        except LookupError as error:
            raise PipelineError(f"{source}: {error}") from error
    return sources


def check_idle(cluster: Cluster) -> None:
    """Make sure that no instance runs.

    Raises:
        PipelineError: the group has members.
    """
    state, members = cluster.group()
    if state not in IDLE_STATES:
        who = f": {', '.join(members)}" if members else ""
        raise PipelineError(
            f"group {cluster.kafka.group_id} is in use ({state}{who}). Stop all instances first; "
            "one that was killed is gone when its session times out"
        )


def resolve(
    cluster: Cluster, target: Target, committed: Mapping[TopicPartition, Committed],
    bounds: Mapping[TopicPartition, tuple[int, int]],
) -> dict[TopicPartition, int]:  # fmt: skip
    """The offset that the target is in each partition of ``bounds``.

    Raises:
        PipelineError: it is not within the log, or means nothing there.
    """
    if isinstance(target, datetime):
        found = cluster.offsets_at(bounds, target)
        ends = {source: end for source, (_, end) in bounds.items()}
        return {source: ends[source] if at is None else at for source, at in found.items()}
    if isinstance(target, int) and len(bounds) > 1:
        raise PipelineError(
            "an offset means another record in each partition: name one with --partition "
            "(and --topic, where there are several)"
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
                raise PipelineError(f"{source}: the group has committed no offset there")
            offset = committed.offset
        case offset:
            pass
    if not start <= offset <= end:
        raise PipelineError(f"{source}: offset {offset} is not in the log, {start} to {end}")
    return offset


def plan(
    config: Config,
    targets: Mapping[TopicPartition, int],
    committed: Mapping[TopicPartition, Committed],
    bounds: Mapping[TopicPartition, tuple[int, int]],
    entries: Mapping[TopicPartition, LedgerEntry],
) -> list[Change]:
    """What will change. ``entries`` are the ledgers', empty under at-least-once."""
    return [
        _change(
            source, config.shard_for(source.partition).name, to, committed.get(source),
            bounds[source], entries.get(source, LedgerEntry()),
        )
        for source, to in targets.items()
    ]  # fmt: skip


def _change(
    source: TopicPartition, shard: str, to: int, committed: Committed | None,
    bounds: tuple[int, int], entry: LedgerEntry,
) -> Change:  # fmt: skip
    start, end = bounds
    applied = list(entry.applied)
    begin = committed.offset if committed else start
    if committed is not None:
        applied += metadata.decode(committed.metadata, committed.offset)
    if applied and applied[0][0] == 0:
        begin = max(begin, applied[0][1])
    begin = min(max(begin, start), end)
    above = [(max(first, begin), last) for first, last in applied if last > begin]
    kept = tuple((max(first, to), last) for first, last in above if last > to)
    if to < begin:
        again = begin - to + sum(last - first for first, last in above)
        return Change(source, shard, begin, to, again, 0, (), entry.epochs)
    passed = sum(min(last, to) - first for first, last in above if first < to)
    return Change(source, shard, begin, to, 0, to - begin - passed, kept, entry.epochs)


def commits_of(config: Config, changes: Sequence[Change]) -> dict[TopicPartition, Committed]:
    """What to commit to Kafka."""
    ledger = config.pipeline.exactly_once
    return {
        change.source: Committed(
            change.to, "" if ledger else metadata.encode(change.to, change.applied)
        )
        for change in changes
    }


def resets_of(claims: Mapping[TopicPartition, Claim], changes: Sequence[Change]) -> list[Reset]:
    """What to write to the ledgers: everything below the new offset, and what stays known above."""
    return [
        Reset(claims[change.source], change.epochs, _joined(change.to, change.applied))
        for change in changes
    ]


def _joined(to: int, applied: Ranges) -> Ranges:
    return ((0, to), *applied) if to > 0 else applied
