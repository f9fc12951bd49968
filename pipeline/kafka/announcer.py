"""Tells the group on the control topic where this instance answers over HTTP, until it ends.

Nothing waits for it, and nothing fails with it: where the topic is not there or may not be written, other
instances just don't know of this one. It makes no topic.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs
import trio
from kafka.errors import ClusterAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from pipeline.config.model import Config
from pipeline.contracts.presence import (
    FORGET_SECONDS,
    REFRESH_SECONDS,
    Presence,
    Presences,
    TopicState,
    encode_presence,
    presence_key,
)
from pipeline.errors import one_line
from pipeline.kafka.control_topic import control_topic_of
from pipeline.kafka.producer import DISCARD_SECONDS, AcknowledgedProducer, make_producer

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

RETRY_SECONDS = 15.0

WITHDRAW_SECONDS = 2.0
"""How long the end may take to say that this instance is gone."""

DELIVERY_SECONDS = 10.0

Messages = Mapping[bytes, bytes | None]


class Announcer:
    """Keeps this instance's message on the control topic. In Trio, but for what it sends.

    Args:
        presence: what to tell; its time is set anew with each message.
        presences: what the follower reads; tells whether the topic is there, and what is on it.
        send: writes messages to the topic; raises KafkaError, OSError. Cancelled, it returns at once.
        clock: the wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        presence: Presence,
        presences: Presences,
        send: Callable[[Messages], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._presence = presence
        self._presences = presences
        self._send = send
        self._clock = clock
        self._next = 0.0
        self._there = False
        self._warned = False

    async def run(self) -> None:
        """Tell it until cancelled; then take it back, within `WITHDRAW_SECONDS`."""
        try:
            while True:
                if self._presences.topic is TopicState.FOLLOWED and self._clock() >= self._due():
                    await self.write()
                await trio.sleep(LOOK_SECONDS)
        finally:
            # Shielded, since nobody else takes it back; bounded, since it only spares others a look.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + WITHDRAW_SECONDS):
                await self._withdraw()

    def _due(self) -> float:
        """When to write next. At once if the topic lost it: it was made anew."""
        known = any(each.id == self._presence.id for each in self._presences.all())
        return self._next if known or not self._there else min(self._next, self._written_by())

    def _written_by(self) -> float:
        return self._next - REFRESH_SECONDS + RETRY_SECONDS

    async def write(self) -> None:
        """Write the message once, and remove those that nobody refreshes any more. A checkpoint."""
        now = self._clock()
        old = [each.id for each in self._presences.all() if each.age(now) > FORGET_SECONDS]
        mine = attrs.evolve(self._presence, at=int(now * 1000))
        messages: dict[bytes, bytes | None] = dict.fromkeys(map(presence_key, old))
        messages[presence_key(mine.id)] = encode_presence(mine)
        self._next = now + RETRY_SECONDS
        if await self._written(messages):
            self._next, self._there, self._warned = now + REFRESH_SECONDS, True, False

    async def _withdraw(self) -> None:
        if self._there and self._presences.topic is TopicState.FOLLOWED:
            await self._written({presence_key(self._presence.id): None})

    async def _written(self, messages: Messages) -> bool:
        try:
            await self._send(messages)
        except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
            if not self._warned:
                self._warned = True
                log.warning(
                    "this user may not write the control topic, so dashboards of other instances don't "
                    "show this one. Grant it Write on the topic, if they should"
                )
            return False
        except (KafkaError, OSError) as error:
            log.debug("the control topic was not told where this instance is: %s", one_line(error))
            return False
        return True


async def announce(config: Config, presences: Presences, presence: Presence) -> None:
    """Tell the group of an instance until cancelled: see `Announcer.run`."""
    millis = int(DELIVERY_SECONDS * 1000)
    make = partial(
        make_producer, config.kafka, config.pipeline.name,
        max_block_ms=millis, delivery_timeout_ms=millis, request_timeout_ms=millis // 2,
    )  # fmt: skip
    producer = AcknowledgedProducer(None, make)
    topic = control_topic_of(config.kafka.group_id)

    async def send(messages: Messages) -> None:
        for key, value in messages.items():
            await producer.send(topic, key=key, value=value, partition=0)

    try:
        await Announcer(presence, presences, send).run()
    finally:
        with trio.CancelScope(shield=True):  # bounded by the producer itself; its thread would stay
            await producer.close(DISCARD_SECONDS)
