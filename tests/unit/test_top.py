"""`pipeline top`: what it shows, how it is sorted and left, and what it says where nothing answers."""

from __future__ import annotations

import io
import json
import os
import pty
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from rich.console import Console

from pipeline.cli import main
from pipeline.config.load import load
from pipeline.dashboard.group import merged
from pipeline.dashboard.peers import Seen
from pipeline.errors import UsageError
from pipeline.records.record import TopicPartition
from pipeline.top.asking import Address, NotAnsweredError, address_of, ask
from pipeline.top.picture import Order, picture
from pipeline.top.screen import Screen, read_keys, single_keys
from tests.support.configurations import document
from tests.support.dashboards import ONE, TOKEN, TWO, Given, present, served


def group(**given: Any) -> dict[str, Any]:
    """A group of one instance that answers, and one that does not."""
    silent = Seen(present(Given("gone").model(), 1), None, "connection refused")
    return {**merged(Given(**given).model().state(), [silent], whole=True), "note": ""}


def lines(state: dict[str, Any], order: Order = Order(), rows: int | None = None) -> list[str]:  # noqa: B008
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(picture(state, order, rows))
    return capture.get().splitlines()


def partitions(state: dict[str, Any], keys: str) -> list[int]:
    """The numbers of the partitions, as they stand after keys were pressed."""
    order = Order()
    for key in keys:
        order = order.pressed(key)
    shown = [line for line in lines(state, order) if line.startswith("sessions-")]
    return [int(line.split()[0].removeprefix("sessions-")) for line in shown]


def test_it_says_what_is_wrong_first_and_fits_80_columns() -> None:
    many = [attrs.evolve(ONE, source=TopicPartition("t" * 60, 0), message_lag=10**12)]
    shown = lines(group(partitions=many, trouble=["one has stood still for 61 s " * 9]))
    assert max(map(len, shown)) <= 80
    assert shown[0] == "web (group sessions), 2 instances"
    text = "\n".join(shown)
    assert text.index("owner-gone on here is not answering: connection refused") < text.index(
        "busy"
    )
    assert "shard db0 is away: refused" in text
    assert "1,000,000,000,000" in text


def test_partitions_are_sorted_by_a_key_and_reversed_by_the_same_one() -> None:
    state = group(partitions=[ONE, TWO])
    assert partitions(state, "") == [0, 1]
    assert partitions(state, "p") == [1, 0]
    assert partitions(state, "l") == [0, 1]
    assert partitions(state, "t") == [1, 0]
    assert partitions(state, "tt") == [0, 1]
    assert partitions(state, "tx") == [1, 0]


def test_what_is_not_known_is_sorted_first_and_shown_as_a_dash() -> None:
    state = group(partitions=[ONE, attrs.evolve(TWO, message_lag=None)])
    assert partitions(state, "l") == [1, 0]
    assert "lag -," in lines(state)[1]


def test_what_does_not_fit_is_counted() -> None:
    many = [attrs.evolve(ONE, source=TopicPartition("sessions", n)) for n in range(50)]
    shown = lines(group(partitions=many), rows=24)
    assert len(shown) <= 24
    assert shown[-1].startswith("and 38 more")


def test_an_endpoint_has_its_line() -> None:
    state = group()
    told = {"pending": 3, "latency_seconds": 0.0042, "accepted": 1200, "refused": {"422": 2}}
    state["instances"][1]["ingest"] = told
    assert lines(state)[-1] == (
        "ingest owner-me: -/s, 1,200 accepted, 2 refused, 3 pending, request 4.2 ms"
    )


@pytest.mark.parametrize(("seconds", "shown"), [(0.0123, "12.3 ms"), (4.0, "4.0 s"), (None, None)])
def test_how_long_what_was_accepted_takes_is_shown_while_something_comes(
    seconds: float | None, shown: str | None
) -> None:
    told = {**group(), "accepted_to_visible_seconds": seconds}
    found = [line for line in lines(told) if line.startswith("accepted to visible")]
    assert found == ([] if shown is None else [f"accepted to visible: {shown}"])


@pytest.mark.parametrize(
    ("listen", "url", "expected"),
    [
        ('listen = "127.0.0.1:9187"', None, "http://127.0.0.1:9187"),
        ('listen = "0.0.0.0:9187"', None, "http://127.0.0.1:9187"),
        ('listen = "[::]:9187"', None, "http://[::1]:9187"),
        ('listen = "127.0.0.1:9187"', "http://web-1:80", "http://web-1:80"),
        ('listen = "127.0.0.1:9187"', "web-1", "http://web-1:80"),
    ],
)
def test_the_address_is_given_or_the_configurations(
    tmp_path: Path, listen: str, url: str | None, expected: str
) -> None:
    file = tmp_path / "p.toml"
    file.write_text(document(more=f'[http]\n{listen}\ntoken = "{TOKEN}"\n'))
    address = address_of(url, load(file))
    assert (str(address), address.tokens) == (expected, (TOKEN,))
    assert TOKEN not in repr(address)


@pytest.mark.parametrize("url", ["https://web-1:1", "http://:80", "http://web-1:99999", "ftp://x"])
def test_an_address_that_can_not_be_asked_is_a_mistake(url: str) -> None:
    with pytest.raises(UsageError, match="expected an address"):
        address_of(url, None)


@pytest.mark.parametrize(
    ("http", "told"), [("", "has no [http] listen"), ('[http]\nlisten = "127.0.0.1:0"', "any free")]
)
def test_a_configuration_without_an_address_is_told_what_to_do(
    tmp_path: Path, http: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.toml"
    file.write_text(document(more=http))
    assert main(["top", "--config", str(file)]) == 2
    assert told in capsys.readouterr().err


def test_nothing_to_ask_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top"]) == 2
    assert "--url" in capsys.readouterr().err


def test_an_instance_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--url", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1 does not answer: connection refused" in capsys.readouterr().err


async def test_it_is_asked_with_the_token_and_printed_as_it_is() -> None:
    async with served(Given().model(), tokens=[TOKEN]) as port:
        at = f"http://127.0.0.1:{port}"
        state = await ask(Address("127.0.0.1", port, [TOKEN]))
        assert [each["message_lag"] for each in state["partitions"]] == [7, 1]
        with pytest.raises(NotAnsweredError, match="refuses"):
            await ask(Address("127.0.0.1", port))

        def printed() -> tuple[int, int]:
            return main(["top", "--url", at, "--json"]), main(["top", "--url", at])

        assert await trio.to_thread.run_sync(printed) == (1, 1)
    async with served(Given().model()) as port:
        at = f"http://127.0.0.1:{port}"
        assert await trio.to_thread.run_sync(printed_by, at) == (0, 0)


def printed_by(at: str) -> tuple[int, int]:
    return main(["top", "--url", at, "--json"]), main(["top", "--url", at])


def test_json_is_what_the_dashboard_says(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with served(Given().model()) as port:
            at = f"http://127.0.0.1:{port}"
            await trio.to_thread.run_sync(main, ["top", "--url", at, "--json"])
            told = json.loads(capsys.readouterr().out)
            assert told["message_lag"] == 8
            await trio.to_thread.run_sync(main, ["top", "--url", at])
            assert "applied -/s, lag 8, time lag 9.0 s" in capsys.readouterr().out

    trio.run(run)


async def test_a_port_that_serves_something_else_is_told(nursery: trio.Nursery) -> None:
    async def odd(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    listeners = await nursery.start(trio.serve_tcp, odd, 0)
    with pytest.raises(NotAnsweredError, match="serves no dashboard"):
        await ask(Address("127.0.0.1", listeners[0].socket.getsockname()[1]))


@attrs.define
class Terminal:
    """A screen over given answers, and what it has drawn."""

    answer: Callable[[], dict[str, Any]]
    file: io.StringIO = attrs.field(factory=io.StringIO)

    async def ask(self) -> dict[str, Any]:
        return self.answer()

    def screen(self) -> Screen:
        console = Console(width=80, height=24, file=self.file, force_terminal=True)
        return Screen(self.ask, console)

    def drawn(self) -> str:
        """What was drawn since the last look."""
        text = self.file.getvalue()
        self.file.seek(0)
        self.file.truncate()
        return text


async def test_keys_sort_and_leave_and_an_instance_that_goes_is_told(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 (asked for to be in force)
) -> None:
    gone = False

    def answer() -> dict[str, Any]:
        if gone:
            raise NotAnsweredError("http://x does not answer: connection refused")
        return group(partitions=[ONE, TWO])

    terminal = Terminal(answer)
    send, receive = trio.open_memory_channel[str](0)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.screen().run, receive)
            await trio.testing.wait_all_tasks_blocked()
            first = terminal.drawn()
            assert first.index("sessions-0") < first.index("sessions-1")
            assert "q quit" in first
            await send.send("t")
            await trio.testing.wait_all_tasks_blocked()
            sorted_ = terminal.drawn()
            assert sorted_.index("sessions-1") < sorted_.index("sessions-0")
            gone = True
            await trio.sleep(1.5)
            assert "what is shown is old" in terminal.drawn()
            await send.send("q")


async def test_keys_come_one_by_one_from_a_terminal_that_is_left_as_it_was() -> None:
    mine, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        send, receive = trio.open_memory_channel[str](0)
        with trio.fail_after(20), single_keys(theirs):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_keys, theirs, send)
                os.write(mine, b"l")
                assert await receive.receive() == "l"
                os.write(mine, b"\x1b[A\x1bOB\x1b[15~q")
                assert await receive.receive() == "q"
                nursery.cancel_scope.cancel()
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(mine)
        os.close(theirs)
