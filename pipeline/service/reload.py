"""What a reload changes in an instance that runs, and how long it may take to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.config.model import COMMIT_SECONDS, Config
from pipeline.consumer.assignment import Supervisor
from pipeline.consumer.partition_context import PartitionContext
from pipeline.contracts.store import DeadLetters
from pipeline.kafka.dead_letters import DeadLetterTopic
from pipeline.service.contexts import records_per_rule
from pipeline.service.resources import CLOSE_SECONDS
from pipeline.supervise.reload import Apply
from pipeline.supervise.stop import Stop

LIVE = (
    "limits.max_buffered",
    "limits.max_buffered_total",
    "limits.max_buffered_bytes",
    "limits.max_buffered_per_key",
    "limits.max_buffered_per_tenant",
    "limits.max_lanes",
    "limits.max_batch",
    "limits.max_batch_bytes",
    "limits.drain_deadline",
    "errors.max_dead_letters_per_minute",
)
"""What a reload can change."""

UNUSED = ("ingest",)
"""Sections of the configuration that are for others."""


def live(
    supervisor: Supervisor,
    context: PartitionContext,
    dead_letters: DeadLetters,
    stop: Stop,
    resize_batches: Callable[[int], None],
) -> Mapping[str, Apply]:
    """Return what a reload can change, and how."""

    def limits(config: Config) -> None:
        given, budget = config.limits, context.budget
        budget.buffered, budget.buffered_total = given.max_buffered, given.max_buffered_total
        budget.buffered_bytes = given.max_buffered_bytes
        budget.batch, budget.batch_bytes = given.max_batch, given.max_batch_bytes
        if context.lanes is not None:
            context.lanes.most, context.lanes.buffered = given.max_lanes, records_per_rule(config)
        resize_batches(given.max_batch)
        supervisor.drain_seconds, stop.seconds = given.drain_deadline, stop_seconds(config)
        if isinstance(dead_letters, DeadLetterTopic):
            dead_letters.max_per_minute = config.errors.max_dead_letters_per_minute

    return dict.fromkeys(LIVE, limits)


def stop_seconds(config: Config) -> float:
    """Return what a stop may take: the drain, Kafka's answers, and the end of every connection."""
    return config.limits.drain_deadline + COMMIT_SECONDS + 2 * CLOSE_SECONDS
