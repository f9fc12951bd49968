"""Rewinding: the group's offsets and the ledgers moved together, while no instance runs.

The order of the steps, and why a crash between any two of them is safe:

1. `prepare`: the group must be empty. What each ledger holds is read, with the epochs.
2. `carry_out` sets the group's offsets in Kafka, which refuses if a member has joined since. A crash
   after this step leaves the ledgers as they were, and an instance that starts then believes them.
   Going back, the instance begins where it would have begun without the rewind (and logs that the
   group's offset was set back from outside). Skipping, it begins at the new offset, as intended.
   Nothing is applied twice. The other order would not be safe: the ledger would have forgotten what
   was applied out of order above the group's old offset, which is where that instance begins.
3. `carry_out` then resets each shard's ledger in one transaction, and only if no epoch has changed
   since step 1. So an instance that started in between is noticed, and keeps what it has. A crash
   between two shards leaves some partitions moved and others not; each is consistent by itself.

Run again, the command finishes what was interrupted, best with ``committed`` as the target: Kafka has
all of the new offsets by then, and a partition that was finished has nothing left to move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal, get_args

import attrs

from pipeline.config.model import Config
from pipeline.contracts import commit_metadata as metadata
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError, UsageError
from pipeline.operate import ledgers
from pipeline.operate.cluster import Cluster, Committed
from pipeline.operate.ledgers import Reset
from pipeline.operate.moments import parse_moment
from pipeline.postgres.ledger.lane_moves import LaneMove
from pipeline.postgres.ledger.reading import LedgerEntry, Ranges
from pipeline.records.record import TopicPartition
from pipeline.runtime import interrupt

Word = Literal["earliest", "latest", "committed"]
Target = Word | int | datetime

WORDS: dict[str, Word] = {word: word for word in get_args(Word)}

IDLE_STATES = ("Empty", "Dead")


UNFINISHED = (
    "the group's offsets are set, but not every ledger: a shard whose ledger is not set goes on as if "
    "nothing had happened, and nothing is lost. To finish: pipeline rewind --to committed"
)

Report = Callable[[str], object]
"""Called with a line of text for the operator."""


@attrs.frozen
class PartitionMove:
    """What happens to one partition.

    Attributes:
        source: topic and partition.
        shard: the name of the shard that the partition writes to.
        begin: the offset at which an instance would begin now.
        to: the offset at which an instance will begin.
        again: how many applied offsets will be applied again, at most (compaction leaves holes).
        skipped: how many offsets that are not applied will never be.
        applied: what stays known as applied from ``to`` on. Going back forgets all of it, since that
            is what going back is for. Skipping keeps it, or it would be applied a second time.
        epochs: the ledger's, when it was read.
        lanes: how many lanes are open. They go along: see `lane_move`.
    """

    source: TopicPartition
    shard: str
    begin: int
    to: int
    again: int
    skipped: int
    applied: Ranges
    epochs: tuple[tuple[int, int], ...]
    lanes: int = 0

    @property
    def lane_move(self) -> LaneMove:
        """What becomes of the lanes. Where nothing moves, what waits in them is not skipped."""
        if self.to == self.begin:
            return LaneMove.STAY
        return LaneMove.BACK if self.to < self.begin else LaneMove.SKIP


@attrs.frozen
class RewindPlan:
    """What `prepare` found, and `carry_out` does.

    Attributes:
        moves: one for each partition.
        claims: what names the partitions in the ledgers; empty if there are none (at-least-once).
    """

    moves: Sequence[PartitionMove]
    claims: Mapping[TopicPartition, Claim]


def prepare(
    cluster: Cluster, config: Config, target: Target, sources: Sequence[TopicPartition]
) -> RewindPlan:
    """Make sure that no instance runs, read the ledgers, and plan. Changes nothing.

    Blocks; reads the ledgers in Trio, so it must not be called from Trio.

    Raises:
        PipelineError: an instance runs, the target is not in the log, or a shard doesn't answer.
        KeyboardInterrupt: Ctrl-C.
    """
    check_idle(cluster)
    bounds, committed = cluster.bounds(sources), cluster.committed(sources)
    targets = resolve(cluster, target, committed, bounds)
    claims = _claims(config, cluster, sources)
    entries = interrupt.run(partial(ledgers.read, config, claims.values())) if claims else {}
    return RewindPlan(plan(config, targets, committed, bounds, entries), claims)


def carry_out(
    cluster: Cluster, config: Config, plan: RewindPlan, report: Report, warn: Report
) -> None:
    """Move the group's offsets and then the ledgers; the module's docstring says why in this order.

    Blocks; resets the ledgers in Trio, so it must not be called from Trio.

    Args:
        report: called after each step that is done.
        warn: called if it ends between two steps, with what to do next.

    Raises:
        PipelineError: an instance runs, or a shard doesn't answer.
        KeyboardInterrupt: Ctrl-C.
    """
    cluster.commit(commits_of(config, plan.moves))
    report("the group's offsets are set")
    if not plan.claims:
        return
    resets = resets_of(plan.claims, plan.moves)
    try:
        interrupt.run(
            partial(
                ledgers.reset,
                config,
                resets,
                lambda shard: report(f"the ledger is set in shard {shard}"),
            )
        )
    except BaseException:  # also at Ctrl-C: the operator must know what is done and what is not
        warn(UNFINISHED)
        raise


def _claims(
    config: Config, cluster: Cluster, sources: Sequence[TopicPartition]
) -> dict[TopicPartition, Claim]:
    if not config.pipeline.exactly_once:
        return {}
    group = config.kafka.group_id
    return {source: Claim(group, source, cluster.topic_id(source.topic)) for source in sources}


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


def check_idle(cluster: Cluster) -> None:
    """Raise unless no instance runs.

    Raises:
        PipelineError: the group has members.
    """
    state, members = cluster.group()
    if state not in IDLE_STATES:
        who = f": {', '.join(members)}" if members else ""
        raise PipelineError(
            f"group {cluster.kafka.group_id} is in use ({state}{who}). Stop all instances first; "
            "one that was killed leaves the group when its session times out"
        )


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


def plan(
    config: Config,
    targets: Mapping[TopicPartition, int],
    committed: Mapping[TopicPartition, Committed],
    bounds: Mapping[TopicPartition, tuple[int, int]],
    entries: Mapping[TopicPartition, LedgerEntry],
) -> list[PartitionMove]:
    """Return what will move. ``entries`` are the ledgers'; they are empty under at-least-once."""
    return [
        _move(
            source, config.shard_for(source.partition).name, to, committed.get(source),
            bounds[source], entries.get(source, LedgerEntry()),
        )
        for source, to in targets.items()
    ]  # fmt: skip


def _move(
    source: TopicPartition, shard: str, to: int, committed: Committed | None,
    bounds: tuple[int, int], entry: LedgerEntry,
) -> PartitionMove:  # fmt: skip
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
        return PartitionMove(source, shard, begin, to, again, 0, (), entry.epochs, entry.lanes)
    passed = sum(min(last, to) - first for first, last in above if first < to)
    skipped = to - begin - passed
    return PartitionMove(source, shard, begin, to, 0, skipped, kept, entry.epochs, entry.lanes)


def commits_of(config: Config, moves: Sequence[PartitionMove]) -> dict[TopicPartition, Committed]:
    """Return what to commit to Kafka."""
    ledger = config.pipeline.exactly_once
    return {
        move.source: Committed(move.to, "" if ledger else metadata.encode(move.to, move.applied))
        for move in moves
    }


def resets_of(
    claims: Mapping[TopicPartition, Claim], moves: Sequence[PartitionMove]
) -> list[Reset]:
    """Return what each ledger is to hold: all below the new offset, and what stays known above."""
    return [
        Reset(
            claims[move.source],
            move.epochs,
            _joined(move.to, move.applied),
            move.to,
            move.lane_move,
        )
        for move in moves
    ]


def _joined(to: int, applied: Ranges) -> Ranges:
    return ((0, to), *applied) if to > 0 else applied
