"""What the service manager is told of a process while it lives, from Trio's loop: a tick per second.

==========  ===================================================================
starting    why it is not ready yet, as its status. As long as the loop moves the
            time to start is extended: waiting for others is no failure to start
ready       ``READY=1``, once, when the work is done: not when the process runs
running     a status of one line; signs of life for the watchdog, unless the
            process itself knows a reason to be restarted
reloading   ``RELOADING=1``, and ``READY=1`` with what came of it
stopping    ``STOPPING=1``; the time to stop is extended while the drain may go on
==========  ===================================================================

A loop that hangs sends nothing any more, in each of these states, so the manager ends the process.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

import trio

from pipeline.supervise.notifier import Notifier, extend, monotonic, status

TICK_SECONDS = 1.0
STATUS_SECONDS = 5.0
"""A status that changes is told as often: each one is a signal on the system's bus."""

EXTENSION_SECONDS = 15.0
"""What each tick asks for: the manager waits no longer for a loop that hangs."""

SIGNS = 3
"""So many signs of life within the watchdog's time: one that is late does no harm."""


class Standing(Protocol):
    """What is told of a process. Each is called once a second at most, and must not checkpoint."""

    def starting(self) -> str | None:
        """Why it does not do its work yet, for people; None: it does."""

    def status(self) -> str:
        """How it is, on one line."""

    def live(self) -> list[str]:
        """Reasons to restart it; none while it is live."""


class Beginning:
    """The `Standing` of a process that is being put together."""

    def starting(self) -> str | None:
        """Return what it does."""
        return "connecting"

    def status(self) -> str:
        """Return nothing: it has no work yet."""
        return ""

    def live(self) -> list[str]:
        """Return no reason to restart it."""
        return []


class State(Enum):
    """Where a process is in its life, for the service manager."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Reports:
    """The messages to the service manager. Without one, nothing is done here.

    Args:
        notifier: the way to it.
        standing: what there is to tell; None: that the process is being put together.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        notifier: Notifier,
        standing: Standing | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.state = State.STARTING
        self.standing = standing or Beginning()
        self._notifier = notifier
        self._clock = clock
        self._told = ""
        self._status_at = self._sign_at = float("-inf")
        self._stops_by = float("inf")
        self._kept = ""
        self._reloaded = False  # and not told yet

    @property
    def supervised(self) -> bool:
        """Whether there is a service manager."""
        return self._notifier.enabled

    async def run(self) -> None:
        """Tick until cancelled; without a service manager, return at once. A checkpoint."""
        seconds = self._notifier.watchdog_seconds
        tick = min(TICK_SECONDS, seconds / SIGNS) if seconds else TICK_SECONDS
        while self._notifier.enabled:
            self.tick()
            await trio.sleep(tick)

    def tell_of(self, standing: Standing) -> None:
        """Tell of another standing from now on: the process has been put together. Not a checkpoint."""
        self.standing = standing
        if self._notifier.enabled:
            self.tick()

    def tick(self) -> None:
        """Tell what is due. Not a checkpoint."""
        now = self._clock()
        live = not self.standing.live()
        self._give_sign(now, live)
        match self.state:
            case State.STARTING:
                self._start(live)
            case State.RUNNING if self._reloaded:
                self._end_reload()
            case State.RUNNING:
                self._tell_status(now)
            case State.STOPPING:
                self._extend_stop(now)

    def _give_sign(self, now: float, live: bool) -> None:
        seconds = self._notifier.watchdog_seconds
        if seconds is None or not live or now < self._sign_at + seconds / SIGNS:
            return
        if self._notifier.tell("WATCHDOG=1"):
            self._sign_at = now

    def _start(self, live: bool) -> None:
        why = self.standing.starting()
        if why is None:
            text = self.standing.status()
            if self._notifier.tell("READY=1", status(text)):
                self.state, self._told = State.RUNNING, text
            return
        if live:
            self._notifier.tell(status(f"starting: {why}"), extend(EXTENSION_SECONDS))

    def _tell_status(self, now: float) -> None:
        if now < self._status_at + STATUS_SECONDS:
            return
        self._status_at = now
        text = f"{self._kept}{self.standing.status()}"
        if text != self._told and self._notifier.tell(status(text)):
            self._told = text

    def _extend_stop(self, now: float) -> None:
        left = self._stops_by - now
        if left > 0:
            self._notifier.tell(extend(min(EXTENSION_SECONDS, left)))

    def stopping(self, why: str, seconds: float) -> None:
        """Tell that it stops, and extend the time for that, for so many seconds at most.

        Not a checkpoint.
        """
        self.state = State.STOPPING
        self._stops_by = self._clock() + seconds
        self._notifier.tell(
            "STOPPING=1", status(f"stopping: {why}"), extend(min(EXTENSION_SECONDS, seconds))
        )

    def reloading(self) -> None:
        """Tell that the configuration is read again. Not a checkpoint."""
        self._notifier.tell("RELOADING=1", monotonic(), status("reading the configuration again"))

    def reloaded(self, refused: str = "") -> None:
        """Tell that this is over; ``refused`` is why nothing was changed, and stays in the status.

        Not a checkpoint.
        """
        self._kept = f"the reload was refused: {refused}; " if refused else ""
        self._reloaded = True
        self._end_reload()

    def _end_reload(self) -> None:
        """Tell that a reload is over, until that goes out: the manager waits for it."""
        text = f"{self._kept}{self.standing.status()}"
        if self._notifier.tell("READY=1", status(text)):
            self._reloaded, self._told = False, text
