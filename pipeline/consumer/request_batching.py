"""OffsetQueries of the same moment, asked together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

import attrs
import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

AGAIN_SECONDS = 0.5


@attrs.define
class _Round(Generic[K, V]):
    """What one request asks for, and its answers once it has them."""

    keys: set[K] = attrs.field(factory=set)
    answers: Mapping[K, V] | None = None


class RequestBatcher(Generic[K, V]):
    """Makes one request of what many tasks ask for at once.

    One request is in flight at a time; those who ask meanwhile go together in the next. Nothing is
    kept from one request to another, so an answer is never older than its question.

    Args:
        ask: the request: keys → values. A key that is left out is asked for again after a while, and
            holds up nobody else.
    """

    def __init__(self, ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._next: _Round[K, V] = _Round()
        self._asking = trio.Lock()

    async def get(self, key: K) -> V:
        """The value of one key. A checkpoint.

        Whoever comes first asks for all of its round. If it is cancelled, or the request fails, the
        error is its own, and the next of the round asks again.

        Raises:
            Whatever the request raises.
        """
        while True:
            answers = await self._round_of(key)
            if key in answers:
                return answers[key]
            await trio.sleep(AGAIN_SECONDS)

    async def _round_of(self, key: K) -> Mapping[K, V]:
        mine = self._next
        mine.keys.add(key)
        async with self._asking:  # others of the same moment come in at this checkpoint
            if mine is self._next:
                self._next = _Round()
            if mine.answers is None:
                mine.answers = await self._ask(mine.keys)
        return mine.answers
