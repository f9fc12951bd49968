"""Asks one shard's ledger what became of records, for all who wait for that: one query at a time.

However many wait, there is one query per `POLL_SECONDS`, for the places of all of them, up to
`MOST_ASKED` at once; and none where nobody waits. After each query there is a pause at least as long as
the query took, so a slow database is not asked more often than it can answer. Beyond `MOST_ASKED` the
places take turns: else, the more had to wait, the longer each query took, and the more had to wait.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import islice

import attrs
import trio

from pipeline.contracts.log_events import event
from pipeline.postgres.connections.errors import sqlstate_of
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.ledger.outcomes import WAITING, Outcome, Place, State

log = logging.getLogger(__name__)

POLL_SECONDS = 0.005
"""What a write waits for its answer after it is visible is half of this and a query. A query takes less
than a millisecond of Postgres for a hundred records."""

FAILED_SECONDS = 1.0
"""How long a shard that did not answer is left alone."""

SILENT_SECONDS = 1.0
"""A query that takes longer is told as the reason why nothing is known."""

MOST_ASKED = 1_000
"""Records in one query."""

MOST_PLACES = 10_000
"""For so many records the question is asked at once; who comes beyond is told so at once."""

Ask = Callable[[Sequence[Place]], Awaitable[Mapping[Place, Outcome]]]


@attrs.define(eq=False)
class Question:
    """What one request wants to know.

    Attributes:
        left: the places whose outcome is not known yet.
        once: whether the next answer is enough, also one that says that they wait.
        found: what is known.
        done: set when there is nothing left.
    """

    left: set[Place]
    once: bool
    found: dict[Place, Outcome] = attrs.field(factory=dict)
    done: trio.Event = attrs.field(factory=trio.Event)

    def settle(self, place: Place, outcome: Outcome) -> None:
        """Take note of an outcome."""
        self.left.discard(place)
        self.found[place] = outcome
        if not self.left:
            self.done.set()


class Poller:
    """The questions to one shard.

    Args:
        name: the shard's name, for messages.
        ask: asks the ledger; places that it leaves out wait. What it raises means that nothing is known.
        explain: an error as a sentence for clients, without addresses.
        clock: seconds.
    """

    def __init__(
        self,
        name: str,
        ask: Ask,
        explain: Callable[[Exception], str],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._name = name
        self._ask = ask
        self._explain = explain
        self._clock = clock
        self._questions: dict[Place, list[Question]] = {}
        self._waiting = trio.lowlevel.ParkingLot()
        self._asked_at: float | None = None
        self._trouble = ""
        self._until = 0.0
        self.ended = ""
        """Why nothing is asked any more; empty while this works."""

    # For requests

    def put(self, places: Collection[Place], *, once: bool) -> Question:
        """Ask for records: the question is to be taken back with `take_back`. Not a checkpoint.

        Args:
            once: whether the next answer is enough.
        """
        question = Question(set(places), once)
        if why := self._refusal(len(places)):
            for place in places:
                question.settle(place, Outcome(State.UNKNOWN, why))
            return question
        for place in places:
            self._questions.setdefault(place, []).append(question)
        self._waiting.unpark_all()
        return question

    def _refusal(self, count: int) -> str:
        if self.ended:
            return self.ended
        if self._trouble and self._clock() < self._until:
            return self._trouble
        if len(self._questions) + count > MOST_PLACES:
            return "too many records are waited for already"
        return ""

    def take_back(self, question: Question) -> None:
        """Ask no more for what is left of a question; say why nothing is known. Not a checkpoint."""
        since = self._asked_at
        silent = since is not None and self._clock() - since >= SILENT_SECONDS
        why = f"shard {self._name} has not answered for a while" if silent else ""
        outcome = Outcome(State.UNKNOWN, why) if silent else WAITING
        for place in tuple(question.left):
            self._forget(place, question)
            question.settle(place, outcome)

    def end(self, why: str) -> None:
        """Answer nobody any more: all questions are settled with this reason. Not a checkpoint."""
        self.ended = why
        self._fail(why)

    # Asking

    async def run(self) -> None:
        """Ask while there are questions, until cancelled. A checkpoint."""
        while True:
            while not self._questions:
                await self._waiting.park()
            places = tuple(islice(self._questions, MOST_ASKED))
            once = [
                (place, each) for place in places for each in self._questions[place] if each.once
            ]
            started = self._asked_at = self._clock()
            try:
                outcomes = await self._ask(places)
            except Exception as error:  # told to those who wait, and in the log; asked again later
                self._failed(error)
            else:
                self._answered(outcomes, once)
                self._put_behind(places)
            finally:
                self._asked_at = None
            await trio.sleep(max(POLL_SECONDS, self._clock() - started))

    def _answered(
        self, outcomes: Mapping[Place, Outcome], once: Collection[tuple[Place, Question]]
    ) -> None:
        if self._trouble:
            facts = event("receipts-back", shard=self._name)
            log.info("shard %s answers again: receipts are told", self._name, extra=facts)
            self._trouble = ""
        for place, outcome in outcomes.items():
            if outcome.state is State.WAITING:
                continue  # told to who asks once; who waits waits on
            for question in self._questions.pop(place, ()):
                question.settle(place, outcome)
        for place, question in once:
            if place in question.left:
                self._forget(place, question)
                question.settle(place, outcomes.get(place, WAITING))

    def _put_behind(self, places: Sequence[Place]) -> None:
        """Let the others have their turn, if not all could be asked for."""
        if len(self._questions) <= MOST_ASKED:
            return
        for place in places:
            if asked := self._questions.pop(place, None):
                self._questions[place] = asked

    def _failed(self, error: Exception) -> None:
        why = f"shard {self._name} can't be asked: {self._explain(error)}"
        if not self._trouble:
            reason = explain(error)
            facts = event(
                "receipts-away", shard=self._name, sqlstate=sqlstate_of(error), reason=reason
            )
            log.warning("shard %s: receipts are not told: %s", self._name, reason, extra=facts)
        self._trouble = why
        self._until = self._clock() + FAILED_SECONDS
        self._fail(why)

    def _fail(self, why: str) -> None:
        questions, self._questions = self._questions, {}
        for place, asked in questions.items():
            for question in asked:
                question.settle(place, Outcome(State.UNKNOWN, why))

    def _forget(self, place: Place, question: Question) -> None:
        asked = self._questions.get(place)
        if asked is not None and question in asked:
            asked.remove(question)
            if not asked:
                del self._questions[place]
