"""What a healthy run says of itself in the log: what it starts as, a line per minute, what it did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator

import trio

from pipeline.config.model import Config
from pipeline.config.secrets import hide_password
from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import DEAD_LETTERS, PartitionSnapshot, Phase
from pipeline.observe.health import held_lines, paused_lines
from pipeline.records.ranges import ranges_of

log = logging.getLogger(__name__)

PERIOD_SECONDS = 60.0


def announcement(config: Config) -> Iterator[str]:
    """Yield what a run is about to do, a line each: the group, the sink, every database."""
    kafka, sink = config.kafka, config.sink
    protocol = kafka.options.get("security_protocol", "PLAINTEXT")
    yield (
        f"group {kafka.group_id} reads {', '.join(kafka.topics)} "
        f"from Kafka at {', '.join(kafka.bootstrap_servers)} ({protocol})"
    )
    what = (
        f"table {sink.table} ({sink.mode})" if sink.handler is None else f"handler {sink.handler}"
    )
    letters = config.errors.dead_letter_topic
    refused = f"dead letters go to {letters}" if letters else "the first dead letter stops it"
    yield f"delivery is {config.pipeline.delivery}, by {what}; {refused}"
    for shard in config.shards:
        numbers = "all partitions"
        if shard.partitions is not None:
            numbers = f"partitions {shown(shard.partitions)}"
        yield f"shard {shard.name}: {hide_password(shard.dsn)}, {numbers}"
    yield "joining the group: at once, or when the session of a member that died times out"


def shown(numbers: Collection[int]) -> str:
    """Return numbers as ranges: ``0-2, 5``."""
    return ", ".join(
        str(first) if first + 1 == end else f"{first}-{end - 1}"
        for first, end in ranges_of(set(numbers))
    )


class ProgressLog:
    """A line per minute with what was applied since the last one, and with what waits.

    Args:
        applied: how many records were applied so far, in all.
        snapshots: the assigned partitions as they are now.
        clock: seconds that only grow.
        refused: how many became dead letters so far.
    """

    def __init__(
        self,
        applied: Callable[[], int],
        snapshots: Callable[[], Collection[PartitionSnapshot]],
        clock: Callable[[], float] = trio.current_time,
        refused: Callable[[], int] = lambda: 0,
    ) -> None:
        self._applied = applied
        self._snapshots = snapshots
        self._clock = clock
        self._refused = refused
        self._started = clock()
        self._before = 0

    async def run(self) -> None:
        """Log a line per `PERIOD_SECONDS`, until cancelled, and then what was done in all."""
        try:
            while True:
                await trio.sleep(PERIOD_SECONDS)
                log.info("%s", self.line())
        finally:
            self._log_end()

    def line(self) -> str:
        """Return what was applied since the last line, and what waits. Not a checkpoint."""
        total = self._applied()
        since, self._before = total - self._before, total
        found = self._snapshots()
        parts = [f"applied {since} records in the last minute, {total} in all"]
        if refused := self._refused():
            parts.append(f"{refused} became dead letters in all")
        parts.append(lag_of(found))
        if opening := sum(each.phase is Phase.OPENING for each in found):
            parts.append(f"{opening} being taken over")
        parts += paused_lines(found) + held_lines(found)
        standing = [each.waits_for for each in found if not each.answers]
        letters = standing.count(DEAD_LETTERS)
        if away := len(standing) - letters:
            parts.append(f"{away} wait for their database")
        if letters:
            parts.append(f"{letters} wait for {DEAD_LETTERS}")
        return "; ".join(parts)

    def _log_end(self) -> None:
        seconds = self._clock() - self._started
        letters = f"; {refused} became dead letters" if (refused := self._refused()) else ""
        applied = self._applied()
        facts = event("stopped", records=applied, milliseconds=seconds * 1000)
        log.info(
            "stopped: %d records were applied in %.0f s%s", applied, seconds, letters, extra=facts
        )


def lag_of(found: Collection[PartitionSnapshot]) -> str:
    """Return the lag of all partitions together, as far as it is known."""
    if not found:
        return "this instance has no partition"
    known = [each.message_lag for each in found if each.message_lag is not None]
    oldest = max((each.time_lag or 0.0 for each in found), default=0.0)
    age = f" (the oldest is {oldest:.1f} s old)" if oldest else ""
    unknown = (
        "" if len(known) == len(found) else f"; the lag of {len(found) - len(known)} is unknown"
    )
    return f"lag {sum(known)}{age}; partitions {len(found)}{unknown}"
