"""What signals do: the first drains, any other cancels; but under a service manager SIGHUP reloads.

Elsewhere SIGHUP comes from a terminal that is closed, and stops as the others do.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from pipeline.contracts.log_events import event
from pipeline.supervise.reports import Reports, State

log = logging.getLogger(__name__)

Reload = Callable[[], Awaitable[str]]
"""Reads the configuration again; returns why nothing was changed, "" if it was."""


class Stop:
    """What the signals of a process do.

    Args:
        everything: cancelled by a second signal, and by one that comes before there is a drain.
        reports: told of each step.
        seconds: what a drain, and the end after it, may take; may be set while this runs.
        draining: what a drain is, for the log.
    """

    def __init__(
        self,
        everything: trio.CancelScope,
        reports: Reports,
        seconds: float,
        draining: str = "draining",
    ) -> None:
        self._everything = everything
        self._reports = reports
        self.seconds = seconds
        self._draining = draining
        self._drain: Callable[[], Awaitable[None]] | None = None
        self._reload: Reload | None = None

    @contextmanager
    def draining_by(
        self, drain: Callable[[], Awaitable[None]], reload: Reload | None = None
    ) -> Iterator[None]:
        """While this lasts there is something to drain, and to reload by SIGHUP."""
        self._drain, self._reload = drain, reload
        try:
            yield
        finally:
            self._drain = self._reload = None

    async def carry_out(self, received: AsyncIterator[int]) -> None:
        """Do what signals say, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for number in received:
                name = signal.Signals(number).name
                if number == signal.SIGHUP and self._reports.supervised:
                    await self._read_again(name)
                else:
                    self._stop(name, nursery)

    def _stop(self, name: str, nursery: trio.Nursery) -> None:
        drain, self._drain = self._drain, None
        if drain is None:
            facts = event("stopping", reason=f"{name}: cancelled")
            log.warning("%s: cancelling", name, extra=facts)
            self._reports.stopping(f"{name}: cancelled", self.seconds)
            self._everything.cancel()
        else:
            facts = event("stopping", reason=f"{name}: {self._draining}")
            log.warning("%s: %s", name, self._draining, extra=facts)
            self._reports.stopping(self._draining, self.seconds)
            nursery.start_soon(drain)

    async def _read_again(self, name: str) -> None:
        """Reload; while the process starts or stops there is nothing to change."""
        reload = self._reload
        if reload is None or self._reports.state is not State.RUNNING:
            why = f"the process is {self._reports.state.value}"
            log.warning("%s: not reloaded: %s", name, why, extra=event("not-reloaded", reason=why))
            return
        log.info("%s: reading the configuration again", name)
        self._reports.reloading()
        self._reports.reloaded(await reload())
