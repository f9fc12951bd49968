"""Batches of one broker's partitions go out together: a wave per broker is under way at a time.

A request to a broker costs its sender and the broker the same whether it carries one batch or one of each
partition, and it wakes the producer's thread, which takes the interpreter from Trio's. So what comes while
a wave is under way waits for its answer, and leaves with all else that came meanwhile. Waves grow with the
load; without load nothing waits longer than two turns of Trio's loop.

The first batch of a wave that is answered ends it: the answer brings those of the others along, and a
batch that the broker did not take yet is tried again by itself. A wave without any answer holds up other
partitions for `HOLD_SECONDS`, so a partition in trouble stops itself and no other.
"""

from __future__ import annotations

import math

import attrs

HOLD_SECONDS = 0.025
"""How long the other partitions of a broker wait for a wave at most. Longer than an answer takes in a
cluster without trouble, shorter than what anybody would notice."""


@attrs.define(eq=False)
class Wave:
    """Batches of one broker that were handed over together.

    Attributes:
        until: when it no longer holds up anybody, by Trio's clock.
    """

    until: float

    def end(self) -> None:
        """Hold up nobody any more."""
        self.until = -math.inf


class Waves:
    """The latest wave of each broker. No method is a checkpoint."""

    def __init__(self) -> None:
        self._latest: dict[int, Wave] = {}

    def held_until(self, broker: int | None) -> float:
        """Return until when a broker's partitions wait; in the past: they don't.

        Args:
            broker: its number; None: there is no leader, so there is nobody to wait for.
        """
        wave = None if broker is None else self._latest.get(broker)
        return -math.inf if wave is None else wave.until

    def begin(self, broker: int | None, now: float) -> Wave:
        """Return a broker's new wave."""
        wave = Wave(now + HOLD_SECONDS)
        if broker is not None:
            self._latest[broker] = wave
        return wave
