"""Dead letters that wait, since their topic does not take them: how many, why, and what is told of it.

A letter waits from when sending it has failed, or has had no answer for a while. The first with a reason
is told at once, all of them each minute, and the end of it: nothing stands still in silence, and
hundreds that wait for one reason fill no log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from pipeline.contracts.log_events import event
from pipeline.kafka.dead_letter_topic import advice
from pipeline.records.record import Record
from pipeline.runtime.backoff import Backoff

log = logging.getLogger(__name__)

TELL_SECONDS = 60.0
"""Between two times that all letters that wait are told of."""

BACKOFF = Backoff(initial=0.4, longest=10.0)
"""Between attempts to send a dead letter."""

AT_ONCE = 4
"""How many letters pause at a time before they are sent again; the others queue behind them. So
hundreds that wait are no load, and the first that is taken sends them all again."""


class WaitingLetter:
    """One letter on its way. ``why`` is None as long as nothing keeps it from its topic."""

    def __init__(self, record: Record, waiting: WaitingLetters) -> None:
        self.record = record
        self.why: str | None = None
        self.since = 0.0
        self._waiting = waiting

    def because(self, error: Exception) -> None:
        """Note why it waits, and tell it if no other waits for that. Not a checkpoint."""
        self._waiting.note(self, error)


class WaitingLetters:
    """All letters of one topic that wait. In Trio.

    Args:
        topic: the dead letter topic.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._all: dict[WaitingLetter, None] = {}
        self._pauses = trio.CapacityLimiter(AT_ONCE)
        self._taken = trio.Event()

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def one(self, record: Record) -> Iterator[WaitingLetter]:
        """A letter on its way; it is forgotten in the end, and was taken if there is no error."""
        letter = WaitingLetter(record, self)
        try:
            yield letter
            if letter in self._all:
                self._was_taken(letter)
        finally:
            self._all.pop(letter, None)

    def _was_taken(self, letter: WaitingLetter) -> None:
        del self._all[letter]
        self._taken.set()
        self._taken = trio.Event()
        if not self._all:
            facts = event("dead-letters-kept", topic=self._topic)
            log.warning("the dead letter topic %s takes records again", self._topic, extra=facts)

    def note(self, letter: WaitingLetter, error: Exception) -> None:
        """Note why a letter waits. Not a checkpoint."""
        why = advice(error, self._topic)
        known = {each.why for each in self._all}
        letter.why = why
        if letter not in self._all:
            letter.since = trio.current_time()
            self._all[letter] = None
        if why not in known:
            log.error(
                "%s is not among the dead letters yet: %s. It is sent again until it is; its "
                "partition waits, others go on",
                letter.record,
                why,
                extra=event("dead-letters-wait", source=letter.record.source, reason=why),
            )

    async def pause(self, attempt: int) -> None:
        """Wait before a letter is sent again, at most until one that waited was taken."""
        taken = self._taken
        async with self._pauses:
            with trio.move_on_after(BACKOFF.seconds(attempt)):
                await taken.wait()

    async def tell(self) -> None:
        """Tell each minute what waits, and why. Runs until cancelled."""
        while True:
            await trio.sleep(TELL_SECONDS)
            for why, count in Counter(each.why for each in self._all).items():
                oldest = next(each for each in self._all if each.why == why)
                log.error(
                    "%d dead letter%s wait%s, for up to %.0f s (%s): %s. The partitions of such "
                    "records wait, others go on",
                    count,
                    "" if count == 1 else "s",
                    "s" if count == 1 else "",
                    trio.current_time() - oldest.since,
                    oldest.record,
                    why,
                )
