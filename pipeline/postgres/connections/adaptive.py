"""How many transactions at once a shard bears: the control law of its limit.

The limit is the most that may run, not the number that does: where there is little to do it changes
nothing. It moves only by transactions that ran while the limit was reached, and only by those that
succeeded at their first attempt: what failed tells of locks, faults and time-outs, not of load.

- **Quick start.** From 1, one more with each transaction, as TCP's slow start: `connections` is reached
  within as many transactions, unless the server is seen to suffer on the way.
- **Additive increase.** Each *window* of transactions (`Window`) whose mean is within `TOLERANCE` of
  the baseline adds one.
- **Multiplicative decrease.** Each window beyond that takes a tenth. The baseline already contains what
  this program's own transactions cost each other (see ``baseline.py``), so what exceeds it comes from
  elsewhere: other programs, a vacuum, a disk that is slow today.
- **Trial.** To take less helps only if it relieves. Every `TRIAL_SECONDS` a limit that has fallen is
  raised for one window to where it fell from. If transactions take hardly longer then (`RELIEF`), they
  are slow for another reason than the number of them, such as a longer way to the server, or a crowd in
  which this program does not count. Then the present is the new baseline and the limit stays up: slow is
  not dead. Without this, a limit by latency settles far too low.
- **Moving baseline.** Downwards at once. Upwards within minutes as long as times are usual, and twice as
  high in `AGEING_SECONDS` while they are not, as the last resort against a limit that stays low because
  something has changed for good.

Rejected: following the throughput uphill (its noise is that of the producers); the gradient of
latencies alone, without the bounds (a first large batch after many small ones looks like a collapse);
a limit for all shards (one bad shard would slow the others).

Cost: a few microseconds for each transaction, nothing for each record.
"""

from __future__ import annotations

import math

import attrs

from pipeline.postgres.connections.baseline import Baseline

TOLERANCE = 2.0
"""So many times the baseline are still no sign of another load."""

DECREASE = 0.9
INCREASE = 1.0

WINDOW_SAMPLES = 6
WINDOW_SECONDS = 0.2
"""A window has at least so many transactions, and as many as the limit, and lasts at least so long."""

TRIAL_SECONDS = 10.0
TRIAL_SAMPLES = 24
TRIAL_PATIENCE = 10.0
"""A trial that is not decided by then had too little to do: it says nothing."""

RELIEF = 1.12
"""If transactions take less than so many times as long under the former limit, the fall was in vain."""

USUAL_SECONDS = 120.0
"""The time constant of the baseline upwards, while times are usual."""

AGEING_SECONDS = 240.0
"""While they are not, the baseline doubles in so many seconds."""

OUTLIER = 2 * TOLERANCE
"""A single transaction counts as no more than this: one that met a lock is no sign of load."""

LONGEST_STEP = 10.0
"""Seconds that the baseline may age at once, however long no window was full."""


@attrs.define
class Window:
    """Transactions under one limit, as multiples of the baseline.

    Attributes:
        began: when the first one ended.
        count: how many.
        strain: the sum of their multiples of what is expected with so many at once.
        plain: the sum of the logarithms of their multiples of what is expected with the largest number
            at once: to compare limits, whatever sizes meet.
    """

    began: float = 0.0
    count: int = 0
    strain: float = 0.0
    plain: float = 0.0

    def add(self, strain: float, plain: float, now: float) -> None:
        if not self.count:
            self.began = now
        self.count += 1
        self.strain += min(strain, OUTLIER)
        self.plain += plain

    def full(self, samples: int, now: float) -> bool:
        return self.count >= samples and now - self.began >= WINDOW_SECONDS


@attrs.frozen
class _Trial:
    """An attempt to return to a former limit.

    Attributes:
        low: the limit before it.
        plain: what transactions took then, as the mean logarithm of multiples of the baseline.
        began: when.
    """

    low: float
    plain: float
    began: float


class AdaptiveLimit:
    """A number between 1 and ``largest``. Nothing here is a checkpoint, or reads a clock.

    Args:
        largest: the highest limit.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._baseline = Baseline()
        self.restart()

    def restart(self) -> None:
        """Begin anew, from 1: the server has been away, or is another one."""
        self._baseline.forget()
        self._limit = 1.0
        self._starting = self._largest > 1
        self._renew()

    def relearn(self) -> None:
        """Forget what was usual but keep the limit: this program's own load is about to change."""
        self._baseline.forget()
        self._renew()

    def _renew(self) -> None:
        self._window = Window()
        self._low = Window()
        self._trial: _Trial | None = None
        self._fell_from: float | None = None
        self._fell_at = 0.0
        self._judged_at: float | None = None

    @property
    def limit(self) -> int:
        """How many transactions may run at once."""
        return int(self._limit)

    def observe(self, rows: int, at_once: int, seconds: float, now: float) -> None:
        """Take a transaction into account that succeeded at its first attempt.

        Args:
            rows: how many it had.
            at_once: how many ran when it began, with itself.
            seconds: what its statements took.
            now: when it ended, in seconds on any clock.
        """
        rows = max(1, rows)
        expected = self._baseline.expected(rows, at_once)
        self._baseline.learn(rows, at_once, seconds)
        limit = self.limit
        if at_once != limit:  # below: there is too little to do; above: it began before a fall
            return
        if expected is None:
            if self._starting:
                self._raise()
            return
        plain = self._baseline.expected(rows, self._largest)
        assert plain is not None, "what is known for one number is known for each"
        self._window.add(seconds / expected, math.log(seconds / plain), now)
        samples = TRIAL_SAMPLES if self._trial else WINDOW_SAMPLES
        if self._window.full(max(samples, limit), now):
            window, self._window = self._window, Window()
            self._judge(window, now)
        elif self._starting and seconds <= TOLERANCE * expected:
            self._raise()

    def _raise(self) -> None:
        self._limit = min(self._largest, self._limit + INCREASE)
        self._starting = self._limit < self._largest
        self._window = Window()

    def _judge(self, window: Window, now: float) -> None:
        elapsed = min(
            LONGEST_STEP, now - (window.began if self._judged_at is None else self._judged_at)
        )
        self._judged_at = now
        strain = window.strain / window.count
        if self._trial is not None:
            self._decide(self._trial, window, now)
        elif strain <= TOLERANCE:
            self._baseline.relax(1.0 + max(0.0, strain - 1.0) * elapsed / USUAL_SECONDS)
            if self._limit < self._largest:
                self._limit = min(self._largest, self._limit + INCREASE)
            if self._limit >= self._largest:
                self._fell_from = None
            self._low = Window()
        else:
            self._baseline.relax(2.0 ** (elapsed / AGEING_SECONDS))
            self._fall(window, now)

    def _fall(self, window: Window, now: float) -> None:
        self._starting = False
        if self._fell_from is None:
            self._fell_from, self._fell_at = self._limit, now
        before = self.limit
        self._limit = max(1.0, DECREASE * self._limit)
        if self.limit < before:
            self._low = Window()
            return
        self._low.count += window.count
        self._low.plain += window.plain
        low_enough = self._limit <= self._fell_from / 2 or self._limit == 1.0
        due = now - self._fell_at >= TRIAL_SECONDS and self._low.count >= TRIAL_SAMPLES
        if low_enough and due and self._fell_from - self._limit >= 1.0:
            self._trial = _Trial(self._limit, self._low.plain / self._low.count, now)
            self._limit = self._fell_from

    def _decide(self, trial: _Trial, window: Window, now: float) -> None:
        """End a trial: stay at the former limit, or return to the lower one."""
        self._trial = None
        self._low = Window()
        self._fell_at = now
        plain = window.plain / window.count
        if now - trial.began > TRIAL_PATIENCE:
            self._limit = trial.low
        elif plain - trial.plain < math.log(RELIEF):
            self._baseline.forget()
            self._fell_from = None
        elif plain > math.log(TOLERANCE):
            self._limit = trial.low
