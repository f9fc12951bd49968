"""Following the control topic in `run`: what was wished is known before the first record is applied.

A thread of its own reads, by a consumer without a group, and posts what it finds into Trio. It asks
every `LOOK_SECONDS` which topic that is now, so one that was made, deleted, or deleted and made again is
noticed. Whenever anything fails it begins anew with new connections and reads everything again: what it
missed may have been compacted away. Until then all wishes stay as they were last known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from uuid import UUID

import attrs
import trio
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
)

from pipeline.config.model import KafkaConfig
from pipeline.contracts.presence import (
    Presence,
    Presences,
    TopicState,
    UnreadablePresence,
    decode_presence,
    presence_id,
)
from pipeline.contracts.wish import AnyWish
from pipeline.contracts.wish_codec import Unreadable, decode, id_of
from pipeline.contracts.wishes import Wishes
from pipeline.errors import PipelineError, one_line
from pipeline.kafka.control_topic import control_topic_of, identity_of, read_all, read_more
from pipeline.kafka.options import RECONNECT_MS, connection_options
from pipeline.kafka.reader import open_reader

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often it is asked which topic that is: a new one's wishes are known that soon."""

GONE_LOOKS = 3
"""How many looks in a row must miss a topic that was there: a broker that starts may not know it yet."""

RETRY_SECONDS = 1.0

REQUEST_SECONDS = 5.0

TELL_SECONDS = 10.0
"""How often a start that waits for the wishes says so."""


@attrs.frozen
class Update:
    """What was read of the topic.

    Attributes:
        messages: the newest message of each key; None: it was taken back.
        whole: whether these are all messages that there are.
        topic: what is known of the topic now.
    """

    messages: Mapping[bytes, bytes | None]
    whole: bool
    topic: TopicState = TopicState.FOLLOWED


class ControlFollower:
    """Keeps `Wishes` as the control topic has them. In Trio, but for its reading thread.

    Args:
        kafka: how to reach Kafka, and the group.
        client_id: the name that the connections have at the brokers.
        wishes: what is kept.
        presences: the instances that the topic tells of; kept too, if given.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        client_id: str,
        wishes: Wishes,
        presences: Presences | None = None,
    ) -> None:
        self.topic = control_topic_of(kafka.group_id)
        self._wishes = wishes
        self._presences = Presences() if presences is None else presences
        self._known = trio.Event()
        self._unreadable: set[str] = set()
        self._ended = threading.Event()
        token = trio.lowlevel.current_trio_token()

        def tell(update: Update) -> None:
            with suppress(trio.RunFinishedError):  # nobody wants to know any more
                token.run_sync_soon(self.take, update)

        self._follow = partial(follow, kafka, client_id, self.topic, tell, self._ended)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled; started when all wishes are known, or that there is no topic.

        While Kafka does not answer that, a line per `TELL_SECONDS` says what the start waits for. When
        cancelled it returns at once; its thread ends within `POLL_SECONDS`, or with its last request.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                while not self._known.is_set():
                    with trio.move_on_after(TELL_SECONDS):
                        await self._known.wait()
                        break
                    log.warning(
                        "the start waits for %s: Kafka has not told yet what is held or paused",
                        self.topic,
                    )
                task_status.started()
        finally:
            self._ended.set()

    async def _read(self) -> None:
        await trio.to_thread.run_sync(self._follow, abandon_on_cancel=True)

    def take(self, update: Update) -> None:
        """Take what was read; what can't be read is told once. Not a checkpoint."""
        self._presences.topic = update.topic
        self._take_presences(update)
        if update.whole:
            read = (self._decode(key, value) for key, value in update.messages.items())
            self._wishes.replace(wish for wish in read if wish is not None)
            self._known.set()
            return
        for key, value in update.messages.items():
            wish = self._decode(key, value)
            wish_id = id_of(key)
            if wish is not None:
                self._wishes.put(wish)
            elif value is None and wish_id is not None:
                self._wishes.remove(wish_id)

    def _take_presences(self, update: Update) -> None:
        read = {
            found: self._presence(key, value)
            for key, value in update.messages.items()
            if (found := presence_id(key)) is not None
        }
        if update.whole:
            self._presences.replace(each for each in read.values() if each is not None)
            return
        for found, presence in read.items():
            if presence is None:
                self._presences.remove(found)
            else:
                self._presences.put(presence)

    def _presence(self, key: bytes, value: bytes | None) -> Presence | None:
        try:
            return None if value is None else decode_presence(key, value)
        except UnreadablePresence as error:
            self._tell_unreadable("an instance is not shown", error)
            return None

    def _decode(self, key: bytes, value: bytes | None) -> AnyWish | None:
        if value is None or presence_id(key) is not None:
            return None
        try:
            return decode(key, value)
        except Unreadable as error:
            self._tell_unreadable("a wish is ignored", error)
            return None

    def _tell_unreadable(self, what: str, error: ValueError) -> None:
        if str(error) not in self._unreadable:
            self._unreadable.add(str(error))
            log.warning("%s: %s: %s", self.topic, what, error)


# On the reading thread


def follow(
    kafka: KafkaConfig,
    client_id: str,
    topic: str,
    tell: Callable[[Update], None],
    ended: threading.Event,
) -> None:
    """Read until ``ended`` is set, whatever fails. Blocks; raises nothing that Kafka may raise."""
    reading = _Reading(kafka, client_id, topic, tell, ended)
    while not ended.is_set():
        try:
            reading.run()
        except TopicAuthorizationFailedError:
            reading.forbidden()
            ended.wait(LOOK_SECONDS)
        except (KafkaError, OSError, PipelineError) as error:
            log.debug("%s can't be read, trying again: %s", topic, one_line(error))
            ended.wait(RETRY_SECONDS)
        except Exception:  # told, and begun anew: an error here must not end what consumes
            log.exception("%s can't be read, trying again; all wishes stay as they were", topic)
            ended.wait(TELL_SECONDS)


class _Reading:
    """What the thread does with one set of connections after another."""

    def __init__(
        self,
        kafka: KafkaConfig,
        client_id: str,
        topic: str,
        tell: Callable[[Update], None],
        ended: threading.Event,
    ) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._topic = topic
        self._tell = tell
        self._ended = ended
        self._told = False  # whether anything was told so far
        self._missed = 0  # looks in a row that found no topic
        self._warned = False

    def run(self) -> None:
        """Look for the topic, and read it for as long as it is the same one.

        Raises:
            KafkaError, OSError, PipelineError: Kafka does not answer.
        """
        with self._admin() as admin:
            while not self._ended.is_set():
                identity = identity_of(admin, self._topic)
                if identity is None:
                    self._absent()
                    self._ended.wait(LOOK_SECONDS)
                    continue
                self._missed = 0
                self._read(admin, identity)

    @contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        options = connection_options(self._kafka, self._client_id, KafkaAdminClient.DEFAULT_CONFIG)
        admin = KafkaAdminClient(
            **options,
            reconnect_backoff_max_ms=RECONNECT_MS,
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
        )
        with closing(admin):
            yield admin

    def _absent(self) -> None:
        self._missed += 1
        if self._told and self._missed == GONE_LOOKS:
            log.warning("there is no topic %s any more: nothing is held or paused", self._topic)
        if not self._told or self._missed == GONE_LOOKS:
            self._told = True
            self._missed = max(self._missed, GONE_LOOKS)
            self._tell(Update({}, whole=True, topic=TopicState.ABSENT))

    def forbidden(self) -> None:
        """The topic may not be described or read, if it is there: told once. What was known stays."""
        if not self._warned:
            self._warned = True
            log.warning(
                "this user may not read topic %s: if operators hold, pause or limit anything, it is not "
                "followed here. Grant it Read and Describe on the topic",
                self._topic,
            )
            self._tell(Update({}, whole=not self._told, topic=TopicState.FORBIDDEN))
            self._told = True

    def _read(self, admin: KafkaAdminClient, identity: UUID) -> None:
        """Read the topic until it is another one."""
        options = {"reconnect_backoff_max_ms": RECONNECT_MS, "metrics_enabled": False}
        with open_reader(self._kafka, self._client_id, **options) as consumer:
            self._tell(Update(read_all(consumer, self._topic), whole=True))
            self._told, self._warned = True, False
            while not self._ended.is_set() and identity_of(admin, self._topic) == identity:
                self._read_for(consumer, LOOK_SECONDS)

    def _read_for(self, consumer: KafkaConsumer, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._ended.is_set():
            if news := read_more(consumer):
                self._tell(Update(news, whole=False))
