"""What signals do to a process, under a service manager and elsewhere."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pipeline.supervise.notifier import Notifier
from pipeline.supervise.reports import Reports
from pipeline.supervise.stop import Stop
from tests.support.service_manager import Facts, Manager


class Signals:
    """A `Stop` with signals that a test sends, and what became of them."""

    def __init__(self, manager: Manager | None) -> None:
        notifier = Notifier() if manager is None else manager.notifier()
        self.everything = trio.CancelScope()
        self.reports = Reports(notifier, Facts())
        self.stop = Stop(self.everything, self.reports, 30.0)
        self.drained = 0
        self.reloads = 0
        self._send, self._received = trio.open_memory_channel[int](10)

    async def receive(self) -> AsyncIterator[int]:
        async for number in self._received:
            yield number

    async def drain(self) -> None:
        self.drained += 1

    async def reload(self) -> str:
        self.reloads += 1
        return ""

    async def send(self, number: int) -> None:
        self._send.send_nowait(number)
        await wait_all_tasks_blocked()


@pytest.mark.parametrize("supervised", [True, False])
async def test_sighup_reloads_under_a_service_manager_and_stops_elsewhere(
    manager: Manager, supervised: bool
) -> None:
    signals = Signals(manager if supervised else None)
    signals.reports.tick()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.stop.carry_out, signals.receive())
        with signals.stop.draining_by(signals.drain, signals.reload):
            await signals.send(signal.SIGHUP)
        assert (signals.drained, signals.reloads) == ((0, 1) if supervised else (1, 0))
        nursery.cancel_scope.cancel()


async def test_sighup_changes_nothing_while_a_process_starts_or_stops(manager: Manager) -> None:
    signals = Signals(manager)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.stop.carry_out, signals.receive())
        await signals.send(signal.SIGHUP)
        with signals.stop.draining_by(signals.drain, signals.reload):
            await signals.send(signal.SIGHUP)
            signals.reports.tick()
            await signals.send(signal.SIGTERM)
            await signals.send(signal.SIGHUP)
        assert (signals.drained, signals.reloads) == (1, 0)
        assert not signals.everything.cancel_called
        nursery.cancel_scope.cancel()


async def test_the_first_signal_drains_the_second_cancels(manager: Manager) -> None:
    signals = Signals(manager)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.stop.carry_out, signals.receive())
        with signals.stop.draining_by(signals.drain, signals.reload):
            await signals.send(signal.SIGTERM)
            assert (signals.drained, signals.everything.cancel_called) == (1, False)
            await signals.send(signal.SIGTERM)
            assert (signals.drained, signals.everything.cancel_called) == (1, True)
        nursery.cancel_scope.cancel()
    stopping = [line for line in manager.told() if line.startswith("STOPPING=1")]
    assert len(stopping) == 2
