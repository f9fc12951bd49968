"""The operators' wishes, for commands: read from the control topic, written to it.

A command that has returned was heard: its message is acknowledged by all replicas, and every instance
follows the topic. Two commands at once may both add what only one of them would have added alone; `list`
shows both, and either can be removed.
"""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import attrs
from kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from pipeline.contracts.presence import presence_id
from pipeline.contracts.wish import AnyWish, Hold, HoldState, Pause, RateLimit, Ruling
from pipeline.contracts.wish_codec import Unreadable, decode, encode, key_of, kind_of
from pipeline.errors import PipelineError, UsageError
from pipeline.kafka.control_topic import control_topic_of
from pipeline.operate.cluster import Cluster

W = TypeVar("W", Hold, Pause, RateLimit, Ruling)

FORGET_OVER_SECONDS = 24 * 3600.0
"""How long what ended by itself stays on the topic; the next command that writes removes it."""

FORGET_ENDED_SECONDS = 30 * 24 * 3600.0
"""How long a hold that was released or dropped stays: an instance may have been away meanwhile."""

ENDED = (HoldState.RELEASED, HoldState.DROPPING)


@attrs.frozen
class Known:
    """What is on the control topic.

    Attributes:
        wishes: every wish that can be read, the oldest first, also those that are over.
        unreadable: why each of the other messages can't be read.
        now: when it was read, in seconds since the epoch.
    """

    wishes: tuple[AnyWish, ...]
    unreadable: tuple[str, ...]
    now: float

    def of(self, kind: type[W]) -> list[W]:
        """Return the wishes of a kind that are not over."""
        return [each for each in self.wishes if isinstance(each, kind) and not each.over(self.now)]

    def find(self, kind: type[W], wish_id: str) -> W:
        """Return the wish of a kind that has an id.

        Raises:
            UsageError: there is none, or it is over.
        """
        for wish in self.of(kind):
            if wish.id == wish_id:
                return wish
        word = "limit" if kind is RateLimit else kind.__name__.lower()
        raise UsageError(f"there is no {word} {wish_id}: to see all, pipeline {word} list")


class Forbidden(PipelineError):
    """This user may not read or write the control topic."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(
            f"this user may not use topic {control_topic_of(cluster.kafka.group_id)}, where holds, "
            "pauses and limits are kept: grant Read, Write, Describe and Create on it, or run this "
            "as a user that has them"
        )


@contextmanager
def _forbidden(cluster: Cluster) -> Iterator[None]:
    try:
        yield
    except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
        raise Forbidden(cluster) from error


def read(cluster: Cluster, clock: Callable[[], float] = time.time) -> Known:
    """Read the control topic; where there is none, nothing is wished.

    Raises:
        Forbidden: this user may not read the topic.
        PipelineError: Kafka sent nothing for a while.
    """
    wishes, unreadable = [], []
    with _forbidden(cluster):
        messages = cluster.control_messages()
    for key, value in messages.items():
        if presence_id(key) is not None:  # where an instance is: no wish
            continue
        try:
            wishes.append(decode(key, value))
        except Unreadable as error:
            unreadable.append(str(error))
    wishes.sort(key=lambda wish: (wish.since, wish.id))
    return Known(tuple(wishes), tuple(unreadable), clock())


def keep(cluster: Cluster, known: Known, wish: AnyWish) -> None:
    """Write a wish, and take back what ended long ago. Returns when all replicas have it.

    Raises:
        Forbidden: this user may not write the topic.
        PipelineError: the topic is not one that keeps wishes.
    """
    stale = [each for each in known.wishes if _is_stale(each, known.now) and each.id != wish.id]
    messages: dict[bytes, bytes | None] = {key_of(wish): encode(wish)}
    with _forbidden(cluster):
        cluster.write_control({**messages, **dict.fromkeys(map(key_of, stale))})


def take_back(cluster: Cluster, wish: AnyWish) -> None:
    """Remove a wish. Returns when all replicas have that.

    Raises:
        Forbidden: this user may not write the topic.
        PipelineError: the topic is not one that keeps wishes.
    """
    with _forbidden(cluster):
        cluster.write_control({key_of(wish): None})


def _is_stale(wish: AnyWish, now: float) -> bool:
    if wish.over(now - FORGET_OVER_SECONDS):
        return True
    if isinstance(wish, Hold) and wish.state in ENDED:
        return wish.changed < (now - FORGET_ENDED_SECONDS) * 1000
    return False


def new_id(known: Known, kind: type[AnyWish]) -> str:
    """Return an id that no wish has: a letter for the kind, and four digits."""
    letter = {Hold: "h", Pause: "p", RateLimit: "l", Ruling: "r"}[kind]
    taken = {wish.id for wish in known.wishes}
    while (made := letter + secrets.token_hex(2)) in taken:
        pass
    return made


def operator() -> str:
    """Return who runs this command: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def change(hold: Hold, state: HoldState, now: float) -> Hold:
    """Return a hold in another state.

    Raises:
        UsageError: it is released or dropped already.
    """
    if hold.state in ENDED:
        word = "released" if hold.state is HoldState.RELEASED else "dropped"
        raise UsageError(f"hold {hold.id} of {hold.rule} was {word} already")
    until = None if state in ENDED else hold.until
    changed = max(int(now * 1000), hold.changed + 1)
    return attrs.evolve(hold, state=state, changed=changed, until=until)


def shown_first(wishes: Sequence[W]) -> str:
    """Return which wish stands in the way, for a message."""
    first = wishes[0]
    return f"{kind_of(first)} {first.id}, {first.story()}"
