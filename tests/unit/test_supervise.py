"""What systemd is told, and what its signals do. It is a socket here; the real one is in test_systemd."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import pipeline.ingest.service as ingest
from pipeline import service
from pipeline.config.changes import changed_keys
from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config
from pipeline.contracts.snapshot import PartitionSnapshot, Phase
from pipeline.observe.health import ProgressWatch
from pipeline.postgres.store.batch_sizer import BatchSizer
from pipeline.records.record import TopicPartition
from pipeline.supervise.consumer import ConsumerStanding
from pipeline.supervise.notifier import STATUS_BYTES, Notifier, status
from pipeline.supervise.reload import LEVEL, Reloading
from pipeline.supervise.reports import EXTENSION_SECONDS, Reports, State
from pipeline.supervise.stop import Stop
from pipeline.supervise.supervision import Supervision, tell_failure
from tests.support.configurations import document, shards

ROOT = Path(__file__).parents[2]


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def notifier(self, watchdog_seconds: float | None = None) -> Notifier:
        return Notifier(self.address, watchdog_seconds)

    def told(self) -> list[str]:
        """The messages since the last call, their lines joined by a space."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(65_536).decode().replace("\n", " "))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


class Facts:
    """A standing that a test sets."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.text = "fine"
        self.reasons: list[str] = []

    def starting(self) -> str | None:
        return self.why

    def status(self) -> str:
        return self.text

    def live(self) -> list[str]:
        return self.reasons


# The protocol


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


# Reports


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


def test_why_a_process_failed_is_told(manager: Manager) -> None:
    tell_failure(manager.notifier(), "p.toml: kafka.topics: missing\np.toml: sink: missing")
    assert manager.told() == [
        "STOPPING=1 STATUS=p.toml: kafka.topics: missing p.toml: sink: missing"
    ]


# A consumer's standing


def partition(
    number: int, phase: Phase = Phase.RUNNING, *, answers: bool = True
) -> PartitionSnapshot:
    return PartitionSnapshot(
        TopicPartition("t", number), phase=phase, answers=answers, message_lag=number
    )


@pytest.fixture
def found() -> list[PartitionSnapshot]:
    """The assigned partitions, for a test to change."""
    return []


@pytest.fixture
def health() -> ProgressWatch:
    return ProgressWatch(lambda: 0.0, lambda: "")


Clock = list[float]


@pytest.fixture
def now() -> Clock:
    return [0.0]


@pytest.fixture
def standing(health: ProgressWatch, found: list[PartitionSnapshot], now: Clock) -> ConsumerStanding:
    return ConsumerStanding(
        health, lambda: found, lambda: 500, spare_seconds=15, clock=lambda: now[0]
    )


def test_a_consumer_has_started_when_each_of_its_partitions_is_served(
    standing: ConsumerStanding, health: ProgressWatch, found: list[PartitionSnapshot]
) -> None:
    assert standing.starting() == "the consumer group has not been joined yet"
    health.joined()
    found[:] = [partition(0), partition(1, Phase.OPENING)]
    assert standing.starting() == "taking over 1 of 2 partitions"
    found[:] = [partition(0), partition(1)]
    assert standing.starting() is None


def test_a_database_that_is_away_holds_up_its_own_partitions_only(
    standing: ConsumerStanding, health: ProgressWatch, found: list[PartitionSnapshot]
) -> None:
    health.joined()
    found[:] = [partition(0), partition(1, Phase.OPENING, answers=False)]
    assert standing.starting() is None
    assert "1 wait for their database" in standing.status()
    found[:] = [partition(0, Phase.OPENING, answers=False)]
    assert standing.starting() == "no database of the 1 partitions here answers"


def test_a_spare_has_started_when_others_had_the_time_to_hand_partitions_over(
    standing: ConsumerStanding, health: ProgressWatch, found: list[PartitionSnapshot], now: Clock
) -> None:
    health.joined()
    assert standing.starting() is not None
    now[0] = 14.0
    assert standing.starting() is not None
    found[:] = [partition(0, Phase.OPENING)]
    assert standing.starting() == "taking over 1 of 1 partitions"
    found.clear()
    now[0] = 20.0
    assert standing.starting() is not None, "the time begins anew"
    now[0] = 35.0
    assert standing.starting() is None
    assert standing.status() == "no partitions: spare"


# Signals


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


# Reloads


def configured(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "p.toml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        (document(), document(), []),
        (document(), document(more="[limits]\nmax_batch = 7"), ["limits.max_batch"]),
        (document(), document(kafka="session_timeout_ms = 7000"), ["kafka.session_timeout_ms"]),
        (document(), document(columns='a = "b"'), ["sink.columns.a"]),
        (document(), document(shard="connections = 5"), ["shards[db0].connections"]),
        (
            shards('name = "a"\npartitions = "0"', 'name = "b"\npartitions = "1"'),
            shards('name = "b"\npartitions = "1"', 'name = "a"\npartitions = "0"'),
            ["shards"],
        ),
        (
            shards('name = "a"'),
            shards('name = "a"\npartitions = "0"', 'name = "b"\npartitions = "1"'),
            ["shards[a].partitions", "shards[b]"],
        ),
        (document(), document(more='[http]\nlisten = "127.0.0.1:0"'), ["http"]),
        (document(), document(more='[log]\nlevel = "debug"'), ["log.level"]),
    ],
)
def test_what_has_changed_is_named_by_its_key(
    tmp_path: Path, before: str, after: str, keys: list[str]
) -> None:
    assert changed_keys(configured(tmp_path, before), configured(tmp_path, after)) == keys


def test_a_password_that_changes_in_its_file_is_no_change(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    text = document().replace("postgresql://app:s3cr3t@127.0.0.1:5432/app", f"${{file:{secret}}}")
    secret.write_text("postgresql://app:one@db/app")
    before = configured(tmp_path, text)
    secret.write_text("postgresql://app:two@db/app")
    assert changed_keys(before, configured(tmp_path, text)) == []
    assert changed_keys(before, configured(tmp_path, document())) == ["shards[db0].dsn"]


Apply = Callable[[Config], None]


def reloading(tmp_path: Path, applied: list[Config]) -> Reloading:
    config = configured(tmp_path, document())
    read = partial(load, tmp_path / "p.toml")
    live = {"limits.max_batch": applied.append}
    return Reloading(config, read, live, ["ingest", "shards"], tmp_path / "answer")


def test_the_reference_names_what_a_reload_changes_and_no_more() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text().partition("## What a reload changes")[2]
    named = [
        f"{section}.{key}"
        for section, keys in re.findall(r"^- `\[(\w+)\]` (.*)$", text, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", keys)
    ]
    assert set(named) == {LEVEL, *service.LIVE, *ingest.LIVE}


async def test_a_reload_puts_what_can_change_into_effect_and_answers(tmp_path: Path) -> None:
    applied: list[Config] = []
    reload = reloading(tmp_path, applied)
    (tmp_path / "p.toml").write_text(document(more="[limits]\nmax_batch = 7"))
    assert await reload() == ""
    assert [config.limits.max_batch for config in applied] == [7]
    assert reload.config is applied[0]
    assert (tmp_path / "answer").read_text() == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            document(kafka='group_id = "g"', more="[limits]\nmax_batch = 7"),
            "a restart is needed to change kafka.group_id",
        ),
        (
            document(more="[limits]\nmax_bacth = 7"),
            'limits.max_bacth: unknown key (did you mean "max_batch"?)',
        ),
        ("[", "line 1"),
    ],
)
async def test_a_reload_that_is_refused_changes_nothing_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, why: str
) -> None:
    applied: list[Config] = []
    reload = reloading(tmp_path, applied)
    before = reload.config
    (tmp_path / "p.toml").write_text(text)
    assert (await reload()).startswith(why)
    assert applied == []
    assert reload.config is before
    assert (tmp_path / "answer").read_text().startswith(why)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_sections_that_are_for_others_may_change(tmp_path: Path) -> None:
    applied: list[Config] = []
    reload = reloading(tmp_path, applied)
    (tmp_path / "p.toml").write_text(document(shard="connections = 9"))
    assert await reload() == ""
    assert reload.config.shards[0].connections == 9


async def test_a_change_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    def refuse(config: Config) -> None:
        raise ConfigError(config.source, [Mistake("ingest.tls_cert", "no such file")])

    reload = attrs_evolved(reloading(tmp_path, []), refuse)
    before = reload.config
    assert await reload() == "ingest.tls_cert: no such file"
    assert reload.config is before


def attrs_evolved(reload: Reloading, apply: Apply) -> Reloading:
    return Reloading(reload.config, reload.read, {"ingest.tokens": apply})


async def test_what_came_from_standard_input_is_not_read_again(tmp_path: Path) -> None:
    reload = Supervision.of({}, None).reloading(configured(tmp_path, document()), {}, ())
    assert await reload() == "was not read from a file"


@pytest.mark.parametrize(("bounded", "limits"), [(False, (70, 20)), (True, (1, 1))])
def test_batches_take_another_size_at_once_but_a_handlers_prove_it_first(
    bounded: bool, limits: tuple[int, int]
) -> None:
    sizer = BatchSizer(50, bounded=bounded)
    found = []
    for largest in (70, 20):
        sizer.resize(largest)
        found.append(sizer.limit)
    assert tuple(found) == limits
