"""Whether the topics that are read are still the ones that were taken over.

Kafka tells nobody that a topic was deleted and made anew: it has the same name and the same partitions.
It has another id, though, so ids are asked for every two seconds. That also finds partitions that were
added, since kafka-python joins the group again when it sees them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from uuid import UUID

import trio

from pipeline.consumer.partition import PartitionTask
from pipeline.contracts.kafka import Consumer
from pipeline.contracts.log_events import event
from pipeline.contracts.snapshot import Phase
from pipeline.observe.health import ProgressWatch

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


class TopicWatch:
    """Finds topics that were deleted, or are other ones now.

    Args:
        consumer: what knows the topics' ids.
        tasks: the partition tasks of this moment.
        replace: takes the partitions of tasks over anew.
        health: is told of the topics that do not exist.
    """

    def __init__(
        self,
        consumer: Consumer,
        tasks: Callable[[], Collection[PartitionTask]],
        replace: Callable[[Collection[PartitionTask]], Awaitable[None]],
        health: ProgressWatch,
    ) -> None:
        self._consumer = consumer
        self._tasks = tasks
        self._replace = replace
        self._health = health
        self._missing: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            PipelineError: a topic may not be described.
        """
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Compare each topic's id with what was taken over. A checkpoint.

        Raises:
            PipelineError: a topic may not be described.
        """
        ids = await self._consumer.topic_ids()
        if ids:
            self._tell_missing({topic for topic, found in ids.items() if found is None})
        others = [task for task in self._tasks() if _is_of_another(task, ids)]
        for topic in sorted({task.source.topic for task in others}):
            log.error(
                "topic %s was deleted and made anew: it is read from its first record on, and what "
                "the former one still had is gone",
                topic,
                extra=event("topic-made-anew", topic=topic),
            )
        await self._replace(others)

    def _tell_missing(self, missing: set[str]) -> None:
        for topic in sorted(missing - self._missing):
            log.error(
                "topic %s does not exist: create it, or correct kafka.topics; nothing here creates it",
                topic,
                extra=event("topic-missing", topic=topic),
            )
        for topic in sorted(self._missing - missing):
            log.warning("topic %s exists now", topic, extra=event("topic-there", topic=topic))
        self._missing = missing
        self._health.missing_topics(missing)


def _is_of_another(task: PartitionTask, ids: Mapping[str, UUID | None]) -> bool:
    found = ids.get(task.source.topic)
    if task.claim is None or task.phase is not Phase.RUNNING or found is None:
        return False
    return found != task.claim.topic_id
