"""A TCP proxy that misbehaves on command: between the pipeline and a server.

It lives on a thread of its own, with an asyncio loop; every command may come from any thread, and
has been carried out when it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Self, TypeVar

import attrs

from pipeline.local.ports import HOST, free_port

T = TypeVar("T")

CHUNK = 64 * 1024


@attrs.define(eq=False)
class _Link:
    """One client's connection, and the one to the server behind it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self) -> None:
        """Reset both, without a word."""
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Forwards connections to ``target``, a port on this machine.

    It is also the address that stays the same over a failover: see `lead_to`.

    Attributes:
        port: where clients connect.
        lost_answers: how many answers were swallowed by `lose_answers`.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.lost_answers = 0
        self._target = target
        self._links: set[_Link] = set()
        self._delay = 0.0
        self._losing: tuple[bytes, int] = (b"", 0)
        # Not asyncio.new_event_loop(): where trio-asyncio is imported, its policy answers that.
        self._loop = asyncio.SelectorEventLoop()
        self._server: asyncio.Server | None = None
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # Commands

    def cut(self) -> int:
        """Reset all connections, both sides; how many there were. New ones are served."""
        return self._call(self._cut)

    def refuse(self) -> None:
        """Cut everything, and refuse new connections until `accept`."""
        self._call(self._close_server)

    def accept(self) -> None:
        """Serve new connections."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def lead_to(self, target: int) -> None:
        """Forward new connections to another port; those that are open stay where they are.

        So does a name in DNS that changes. `cut` afterwards, to move everybody.
        """
        self._call(lambda: setattr(self, "_target", target))

    def delay(self, seconds: float) -> None:
        """Forward every piece so much later, in both directions; 0 ends it."""
        self._call(lambda: setattr(self, "_delay", seconds))

    def half_close(self) -> int:
        """Tell all clients that the server has ended, while the server is not told of anything."""
        return self._call(self._half_close)

    def lose_answers(self, containing: bytes, count: int) -> None:
        """Swallow the server's next ``count`` pieces that contain some bytes, and cut there.

        The server has done what it was asked and has said so: only nobody hears it.
        """
        self._call(lambda: setattr(self, "_losing", (containing, count)))

    # On the loop's thread

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()

    def _cut(self) -> int:
        for link in self._links:
            link.abort()
        return len(self._links)

    def _half_close(self) -> int:
        for link in self._links:
            with suppress(OSError):
                link.client.write_eof()
        return len(self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._forward(reader, server, link, answers=False),
                self._forward(from_server, writer, link, answers=True),
            )
        finally:
            self._links.discard(link)
            link.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: _Link,
        *,
        answers: bool,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if answers and self._loses(data):
                    link.abort()
                    return
                if self._delay:
                    await asyncio.sleep(self._delay)
                if not writer.transport.is_closing():
                    with suppress(RuntimeError):  # half closed: what comes after that is lost
                        writer.write(data)
                        await writer.drain()
            with suppress(RuntimeError):
                writer.write_eof()

    def _loses(self, data: bytes) -> bool:
        wanted, left = self._losing
        if not left or wanted not in data:
            return False
        self._losing = (wanted, left - 1)
        self.lost_answers += 1
        return True
