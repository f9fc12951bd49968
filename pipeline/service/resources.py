"""What an instance holds open while it runs, and how each is closed: within `CLOSE_SECONDS`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from pipeline.config.model import Config
from pipeline.contracts.store import DeadLetters
from pipeline.kafka.client import KafkaClient
from pipeline.kafka.dead_letters import DeadLetterTopic, NoDeadLetters
from pipeline.kafka.lane_reader import LaneReader
from pipeline.observe.metrics import Metrics
from pipeline.observe.tracing import Tracing, open_tracing
from pipeline.postgres.connections.errors import sqlstate_of

CLOSE_SECONDS = 10.0
"""What leaving the group may take, and no more: longer than the consumer's own deadline."""


@attrs.frozen
class Resources:
    """What an instance holds open.

    Attributes:
        dead_letters: where records go that can't be applied.
        tracing: spans of batches; None: nobody asks for them.
        consumer: the member of the group.
        lane_reader: reads partitions once more; None without a ledger, which would know what lanes
            have: then there are none.
    """

    dead_letters: DeadLetters
    tracing: Tracing | None
    consumer: KafkaClient
    lane_reader: LaneReader | None


@asynccontextmanager
async def open_resources(
    config: Config, metrics: Metrics, nursery: trio.Nursery
) -> AsyncIterator[Resources]:
    """Open all; close them at the end, the last first. A checkpoint.

    Raises:
        PipelineError: Kafka does not answer, or does not allow it.
    """
    async with (
        _open_dead_letters(config, metrics, nursery) as dead_letters,
        _open_tracing() as tracing,
        _open_consumer(config) as consumer,
        _open_lane_reader(config) as lane_reader,
    ):
        yield Resources(dead_letters, tracing, consumer, lane_reader)


@asynccontextmanager
async def _open_dead_letters(
    config: Config, metrics: Metrics, nursery: trio.Nursery
) -> AsyncIterator[DeadLetters]:
    topic = config.errors.dead_letter_topic
    if topic is None:
        yield NoDeadLetters()
        return
    dead_letters = await DeadLetterTopic.open(
        config.kafka, topic, config.pipeline.name, config.errors.max_dead_letters_per_minute
    )
    metrics.exposition.add_source(lambda: metrics.dead_letters_waiting.set(dead_letters.waiting))
    nursery.start_soon(dead_letters.tell_waiting)
    try:
        yield dead_letters
    finally:
        await _within(CLOSE_SECONDS, dead_letters.close)  # noqa: ASYNC102 (it shields)


@asynccontextmanager
async def _open_tracing() -> AsyncIterator[Tracing | None]:
    tracing = open_tracing(os.environ, sqlstate_of)
    try:
        yield tracing
    finally:
        if tracing is not None:
            close = partial(trio.to_thread.run_sync, tracing.close, abandon_on_cancel=True)
            await _within(CLOSE_SECONDS, close)  # noqa: ASYNC102 (it shields)


@asynccontextmanager
async def _open_consumer(config: Config) -> AsyncIterator[KafkaClient]:
    consumer = await KafkaClient.open(config.kafka, config.pipeline.name)
    try:
        yield consumer
    finally:
        # The group must be left, so that its partitions move at once and not when the session times out.
        await _within(CLOSE_SECONDS, consumer.close)  # noqa: ASYNC102 (it shields)


@asynccontextmanager
async def _open_lane_reader(config: Config) -> AsyncIterator[LaneReader | None]:
    if not config.pipeline.exactly_once:
        yield None
        return
    reader = LaneReader(config.kafka, config.pipeline.name)
    try:
        yield reader
    finally:
        await _within(CLOSE_SECONDS, reader.close)  # noqa: ASYNC102 (it shields)


async def _within(seconds: float, close: Callable[[], Awaitable[None]]) -> None:
    """Close, whatever is cancelled around it, for so long at most."""
    with trio.move_on_after(seconds, shield=True):
        await close()
