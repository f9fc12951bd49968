"""Records on their way into a partition, and what became of each."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Literal

import attrs
import trio
from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from pipeline.errors import one_line
from pipeline.kafka.batch_builder import CompiledRecords, Message

Reason = Literal["too-large", "refused", "not-allowed", "no-topic", "away"]


@attrs.frozen
class NotDelivered:
    """Why a record has not been acknowledged.

    Attributes:
        reason: "too-large" and "refused" concern the record itself; "not-allowed", "no-topic" and
            "away" would meet any record, until somebody mends the cause.
        detail: Kafka's words, on one line; no value of a record is in them.
        perhaps_written: it was sent, and the answer is missing. False: it is not in Kafka.
    """

    reason: Reason
    detail: str
    perhaps_written: bool = False


Outcome = int | NotDelivered
"""The record's offset (-1: acknowledged, and the broker did not say where), or why there is none."""


@attrs.define(eq=False)
class Delivery:
    """Records of one partition that are handed in together. They stay in this order.

    Attributes:
        partition: its number.
        messages: the records.
        size: their bytes, about.
        deadline: when they are given up, by Trio's clock.
        outcomes: what became of each, as far as is known.
        done: set when there is an outcome for each.
    """

    partition: int
    messages: Sequence[Message]
    size: int
    deadline: float
    outcomes: list[Outcome] = attrs.field(factory=list)
    done: trio.Event = attrs.field(factory=trio.Event)
    taken: int = 0
    """How many are in batches that have been made: those before it have an outcome or are under way."""

    def resolve(self, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of the next records."""
        self.outcomes.extend(outcomes)
        if len(self.outcomes) == len(self.messages):
            self.done.set()

    def give_up(self, why: NotDelivered) -> int:
        """Resolve all that are in no batch; return how many these were."""
        left = len(self.messages) - self.taken
        self.taken = len(self.messages)
        self.resolve([why] * left)
        return left


def why_not(error: BaseException, *, perhaps_written: bool) -> NotDelivered:
    """Tell what an error of Kafka's means for the record that met it.

    kafka-python wraps the error by which it gets no producer id into one of another class, whose text
    names it.
    """
    detail = one_line(error)
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return NotDelivered("too-large", detail)
    if isinstance(error, InvalidRecordError | InvalidTimestampError):
        return NotDelivered("refused", detail)
    if isinstance(error, AuthorizationError) or "AuthorizationFailedError" in detail:
        return NotDelivered("not-allowed", detail, perhaps_written)
    if isinstance(error, UnknownTopicOrPartitionError):
        return NotDelivered("no-topic", detail, perhaps_written)
    return NotDelivered("away", detail, perhaps_written)


def fill(records: CompiledRecords, waiting: deque[Delivery]) -> list[tuple[Delivery, int, int]]:
    """Fill a batch from the head of a queue; return the parts that it took."""
    parts = []
    now = int(time.time() * 1000)
    while waiting:
        delivery = waiting[0]
        first = at = delivery.taken
        messages = delivery.messages
        end = len(messages)
        while at < end and records.append(now, messages[at]):
            at += 1
        delivery.taken = at
        if at > first:
            parts.append((delivery, first, at - first))
        if at < end:
            break
        waiting.popleft()
    return parts
