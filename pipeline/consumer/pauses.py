"""Operators' pauses, carried out on the partitions that they cover."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.log_events import event
from pipeline.contracts.wish import Pause
from pipeline.contracts.wishes import Wishes

log = logging.getLogger(__name__)


class Pauses:
    """Lets partitions stand still while a pause covers them, and go on when none does any more.

    The partitions stay assigned to this instance, and it stays in the group.

    Args:
        wishes: where the pauses are.
        shard_of: a partition's number → the name of the shard that it writes to.
        tasks: the partition tasks of this moment.
    """

    def __init__(
        self,
        wishes: Wishes,
        shard_of: Callable[[int], str],
        tasks: Callable[[], Collection[PartitionTask]],
    ) -> None:
        self._wishes = wishes
        self._shard_of = shard_of
        self._tasks = tasks

    async def run(self) -> None:
        """Follow the wishes until cancelled."""
        while True:
            seen = self._wishes.version
            self.apply(self._tasks())
            await self._wishes.changed(seen)

    def apply(self, tasks: Collection[PartitionTask]) -> None:
        """Let these partitions do what is wished now; what changes is logged. Not a checkpoint.

        Whoever starts a partition's task calls this before the task runs: so nothing of a paused
        partition is applied first.
        """
        if not self._wishes.pauses() and all(task.pause is None for task in tasks):
            return
        for task in tasks:
            before, now = task.pause, self._pause_of(task)
            task.obey(now)
            if now is not None and (before is None or before.id != now.id):
                story = now.story()
                facts = event("paused", source=task.source, wish=now.id, reason=story)
                log.warning("%s is paused with %s, %s", task.source, now.what, story, extra=facts)
            elif now is None and before is not None:
                log.warning(
                    "%s goes on: the pause of %s has ended", task.source, before.what,
                    extra=event("resumed", source=task.source, wish=before.id),
                )  # fmt: skip

    def _pause_of(self, task: PartitionTask) -> Pause | None:
        return self._wishes.pause_of(task.source, self._shard_of(task.source.partition))
