"""The live screen: asked again each second, redrawn, and changed by keys."""

from __future__ import annotations

import os
import re
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.top.asking import NotAnsweredError
from pipeline.top.picture import KEYS, Order, picture

SECONDS = 1.0

ESCAPE = re.compile(r"\x1b(?:[\[O][0-9;?]*[@-~]?)?")
"""What arrows and the like send: its letters are no keys of ours."""


class Screen:
    """What is on the terminal. In Trio.

    Args:
        ask: returns the group's state; raises NotAnsweredError.
        console: of the terminal.
    """

    def __init__(self, ask: Callable[[], Awaitable[dict[str, Any]]], console: Console) -> None:
        self._ask = ask
        self._console = console
        self._state: dict[str, Any] = {}
        self._trouble = ""
        self._order = Order()

    async def run(self, keys: trio.MemoryReceiveChannel[str]) -> None:
        """Show it until ``q`` is pressed, or nobody can press a key any more. A checkpoint.

        Raises:
            NotAnsweredError: the first answer did not come; later ones are waited for.
        """
        self._state = await self._ask()
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            self._draw(live)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, live)
                async for key in keys:
                    if key in ("q", "Q", "\x04"):
                        break
                    self._order = self._order.pressed(key)
                    self._draw(live)
                nursery.cancel_scope.cancel()

    async def _follow(self, live: Live) -> None:
        while True:
            await trio.sleep(SECONDS)
            try:
                self._state, self._trouble = await self._ask(), ""
            except NotAnsweredError as error:
                self._trouble = f"{error}; what is shown is old"
            self._draw(live)

    def _draw(self, live: Live) -> None:
        height = self._console.size.height - 2 - bool(self._trouble)
        parts = [Text(self._trouble, style="bold red", no_wrap=True)] if self._trouble else []
        foot = Text(KEYS, style="dim", no_wrap=True, overflow="ellipsis")
        live.update(Group(*parts, picture(self._state, self._order, height), foot), refresh=True)


@contextmanager
def single_keys(terminal: int) -> Iterator[None]:
    """Have a terminal give each key at once and show none; as it was at the end of the block."""
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


async def read_keys(terminal: int, send: trio.MemorySendChannel[str]) -> None:
    """Send each key that is pressed, until the terminal has gone. A checkpoint."""
    async with send:
        while True:
            await trio.lowlevel.wait_readable(terminal)
            try:
                pressed = os.read(terminal, 64).decode(errors="replace")
            except OSError:  # the terminal was closed
                return
            if not pressed:
                return
            for key in ESCAPE.sub("", pressed):
                await send.send(key)


async def show(
    ask: Callable[[], Awaitable[dict[str, Any]]], console: Console, terminal: int
) -> None:
    """Show the screen on a terminal until it is quit. A checkpoint.

    Raises:
        NotAnsweredError: see `Screen.run`.
    """
    send, receive = trio.open_memory_channel[str](16)
    with single_keys(terminal):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_keys, terminal, send)
            try:
                await Screen(ask, console).run(receive)
            finally:
                nursery.cancel_scope.cancel()
