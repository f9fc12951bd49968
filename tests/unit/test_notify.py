"""What systemd is told. It is a socket here; the real one is in tests/integration/test_systemd.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pipeline.supervise.notifier import STATUS_BYTES, Notifier, status
from pipeline.supervise.reports import EXTENSION_SECONDS, Reports, State
from pipeline.supervise.supervision import tell_end, tell_failure
from tests.support.service_manager import Facts, Manager


@pytest.mark.parametrize("name", ["path", "abstract"])
def test_a_message_arrives_at_either_kind_of_address(tmp_path: Path, name: str) -> None:
    address = str(tmp_path / "s") if name == "path" else f"@pipeline-{os.getpid()}"
    manager = Manager(address)
    notifier = Notifier.of({"NOTIFY_SOCKET": address})
    assert notifier.enabled
    assert notifier.tell("READY=1", "STATUS=x")
    assert manager.told() == ["READY=1 STATUS=x"]
    manager.close()


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_an_address_that_is_known_nobody_is_told(address: str) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert not notifier.enabled
    assert notifier.watchdog_seconds is None
    assert notifier.tell("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": "/run/x", **environ}, pid=7)
    assert notifier.watchdog_seconds == seconds


def test_a_manager_that_is_gone_is_told_of_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    assert [notifier.tell("READY=1"), notifier.tell("READY=1")] == [False, False]
    assert len(caplog.records) == 1


def test_a_status_is_one_line_of_bounded_length() -> None:
    assert status("a\nb\n  c") == "STATUS=a b c"
    assert len(status("ü" * 1000).encode()) <= STATUS_BYTES + len("STATUS=")


async def test_ready_is_told_once_and_only_when_the_work_is_done(
    manager: Manager,
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    facts = Facts()
    facts.why = "taking over 2 of 6 partitions"
    reports = Reports(manager.notifier(), facts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.run)
        await trio.sleep(2.5)
        usec = int(EXTENSION_SECONDS * 1e6)
        starting = f"STATUS=starting: {facts.why} EXTEND_TIMEOUT_USEC={usec}"
        assert manager.told() == [starting] * 3
        facts.why = None
        await trio.sleep(1)
        assert manager.told() == ["READY=1 STATUS=fine"]
        await trio.sleep(60)
        assert manager.told() == []
        nursery.cancel_scope.cancel()


async def test_ready_is_told_at_once_when_the_process_is_put_together(manager: Manager) -> None:
    reports = Reports(manager.notifier())
    reports.tick()
    assert manager.told()[0].startswith("STATUS=starting: connecting ")
    reports.tell_of(Facts())
    assert manager.told() == ["READY=1 STATUS=fine"]


async def test_a_ready_that_could_not_be_sent_is_sent_again(tmp_path: Path) -> None:
    reports = Reports(Notifier(str(tmp_path / "notify")), Facts())
    reports.tick()
    assert reports.state is State.STARTING
    manager = Manager(str(tmp_path / "notify"))
    reports.tick()
    assert manager.told() == ["READY=1 STATUS=fine"]
    manager.close()


async def test_a_status_that_changes_is_told_every_five_seconds_at_most(
    manager: Manager,
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    facts = Facts()
    reports = Reports(manager.notifier(), facts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.run)
        await trio.sleep(0.5)
        for number in range(20):
            facts.text = f"lag {number}"
            await trio.sleep(1)
        assert len(manager.told()) == 1 + 20 // 5
        nursery.cancel_scope.cancel()


async def test_the_watchdog_gets_signs_of_life_thrice_in_its_time_while_the_process_is_live(
    manager: Manager,
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    facts = Facts()
    reports = Reports(manager.notifier(watchdog_seconds=30.0), facts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.run)
        await trio.sleep(29.5)
        assert manager.told().count("WATCHDOG=1") == 3
        facts.reasons = ["a partition stands still"]
        await trio.sleep(60)
        assert manager.told().count("WATCHDOG=1") == 0
        facts.reasons = []
        await trio.sleep(1)
        assert manager.told().count("WATCHDOG=1") == 1
        nursery.cancel_scope.cancel()


async def test_a_start_that_hangs_is_not_given_more_time(manager: Manager) -> None:
    facts = Facts()
    facts.why, facts.reasons = "joining", ["a partition stands still"]
    Reports(manager.notifier(), facts).tick()
    assert manager.told() == []


async def test_the_time_of_a_drain_is_extended_up_to_its_end(
    manager: Manager,
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    reports = Reports(manager.notifier(), Facts())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.run)
        await trio.sleep(0.5)
        manager.told()
        reports.stopping("draining", 20.0)
        assert manager.told() == [
            "STOPPING=1 STATUS=stopping: draining EXTEND_TIMEOUT_USEC=15000000"
        ]
        asked = []
        for _ in range(60):
            await trio.sleep(1)
            for line in manager.told():
                asked.append(int(line.removeprefix("EXTEND_TIMEOUT_USEC=")) / 1e6)
        assert asked == [*[15.0] * 5, *(pytest.approx(n - 0.5) for n in range(15, 0, -1))]
        nursery.cancel_scope.cancel()


async def test_a_reload_that_is_refused_stays_in_the_status_until_one_works(
    manager: Manager,
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    facts = Facts()
    reports = Reports(manager.notifier(), facts)
    reports.tick()
    manager.told()
    reports.reloading()
    (begun,) = manager.told()
    assert begun.startswith("RELOADING=1 MONOTONIC_USEC=")
    reports.reloaded("sink.table needs a restart")
    facts.text = "lag 7"
    await trio.sleep(10)
    reports.tick()
    refused = "STATUS=the reload was refused: sink.table needs a restart; "
    assert manager.told() == [f"READY=1 {refused}fine", f"{refused}lag 7"]
    reports.reloaded()
    assert manager.told() == ["READY=1 STATUS=lag 7"]


async def test_the_end_of_a_reload_that_could_not_be_sent_is_sent_again(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    reports = Reports(manager.notifier(), Facts())
    reports.tick()
    manager.close()
    (tmp_path / "notify").unlink()
    reports.reloaded()
    manager = Manager(str(tmp_path / "notify"))
    reports.tick()
    assert manager.told() == ["READY=1 STATUS=fine"]
    manager.close()


async def test_without_a_manager_nothing_runs() -> None:
    await Reports(Notifier()).run()


def test_a_process_that_has_stopped_well_says_so(manager: Manager) -> None:
    tell_end(manager.notifier())
    assert manager.told() == ["STOPPING=1 STATUS=stopped: everything that was begun is done"]


def test_why_a_process_failed_is_told(manager: Manager) -> None:
    tell_failure(manager.notifier(), "p.toml: kafka.topics: missing\np.toml: sink: missing")
    assert manager.told() == [
        "STOPPING=1 STATUS=p.toml: kafka.topics: missing p.toml: sink: missing"
    ]
