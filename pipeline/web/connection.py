"""One client's connection: requests one after another, each answered in the connection's own task."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import trio

from pipeline.web.asgi import App, ClientGoneError, Scope
from pipeline.web.exchange import Exchange
from pipeline.web.head import Request
from pipeline.web.inbound import HEAD_READ
from pipeline.web.limits import Limits
from pipeline.web.link import Link
from pipeline.web.refusal import PROBLEM_HEADERS, SLOW_HEAD, UNREAD, RefusedError, problem
from pipeline.web.response import encode_head
from pipeline.web.tally import Tally
from pipeline.web.transport import UnreadError

log = logging.getLogger(__name__)


class Connection:
    """A connection, from its first byte to its end.

    While it waits for a request, and only then, it may be ended from outside: `due` says when the
    server's clock does it, `dismiss` does it now. So no time-out cancels the application.

    Attributes:
        link: to the client.
        due: when the wait for a request ends (Trio's clock); infinite while there is no such wait.
    """

    def __init__(
        self, app: App, limits: Limits, tally: Tally, link: Link, scope: Mapping[str, Any]
    ) -> None:
        self._app = app
        self._limits = limits
        self._tally = tally
        self._scope = scope
        self._idle = trio.CancelScope()
        self._head_due = trio.current_time() + limits.head_seconds
        self.link = link
        self.due = self._head_due

    @property
    def waiting(self) -> bool:
        """Whether it waits for a request, and may be dismissed."""
        return self.due != math.inf

    def drain(self, grace: float) -> None:
        """Make the next answer the last, and don't wait for another request. Not a checkpoint.

        A request that has begun to arrive may complete its head. A connection that has had no answer
        yet may send its request until ``grace`` (Trio's clock).
        """
        self.link.draining = True
        if not self.waiting or self.link.inbound.rest:
            return
        if self._head_due:
            self._head_due = self.due = min(self._head_due, grace)
        else:
            self.dismiss()

    def dismiss(self) -> None:
        """End it, after a request that has arrived already. For one that waits; not a checkpoint."""
        self.link.draining = True
        self._idle.cancel()

    async def run(self) -> None:
        """Answer requests until the connection ends; close it. Cancelling closes it at once."""
        try:
            with self._idle:
                while not self._idle.cancel_called and await self._next():
                    pass
            if self._idle.cancel_called:
                await self._last()
        except RefusedError as refused:
            await self._refuse(refused)
        except OSError:
            pass  # the client has gone
        finally:
            self.link.transport.close()

    async def _next(self) -> bool:
        """Answer one request, or wait for more of it; return whether the connection goes on."""
        inbound = self.link.inbound
        if not inbound.rest:
            await self._wait()
        elif (request := inbound.head()) is not None:
            goes_on = await self._answer(request)
            if goes_on and inbound.rest:
                await trio.lowlevel.checkpoint()  # the next is here already; others have a turn
            return goes_on
        else:
            await self._wait()
        return not inbound.ended

    async def _wait(self) -> None:
        """Wait for more of the next request, for as long as that may take."""
        inbound = self.link.inbound
        if self._head_due:
            self.due = self._head_due
        elif inbound.rest:
            self.due = self._head_due = trio.current_time() + self._limits.head_seconds
        else:
            self.due = trio.current_time() + self._limits.idle_seconds
        try:
            await inbound.fill(HEAD_READ)
        finally:
            self.due = math.inf

    async def _last(self) -> None:
        """Answer the request that arrived while the connection was dismissed, and no more."""
        self.link.draining = True
        inbound = self.link.inbound
        inbound.rest += self.link.transport.poll(HEAD_READ)
        request = inbound.head()
        if request is not None:
            await self._answer(request)
        elif inbound.rest:
            raise RefusedError(408, SLOW_HEAD, "the headers did not arrive in time")

    async def _answer(self, request: Request) -> bool:
        """Have the application answer a request; return whether the connection goes on."""
        self._head_due = 0.0
        self._tally.requests += 1
        body = self.link.inbound.body(request) if request.length else None
        exchange = Exchange(self.link, request, body)
        try:
            await self._app(self._asgi_scope(request), exchange.receive, exchange.send)
        except trio.Cancelled:
            self._tally.cut_off += 1
            raise
        except Exception as problem:  # the application's, whatever it is: it ends its request only
            if not exchange.gone or not _is_of_the_client(problem, exchange):
                self._tell(request, "the application failed", problem)
        else:
            if not exchange.finished and not exchange.gone:
                self._tell(request, "the application returned before the answer was complete")
        if exchange.finished and not exchange.close and exchange.failure is None:
            return True
        return await self._settle(exchange)

    async def _settle(self, exchange: Exchange) -> bool:
        """Bring the connection into a known state after an answer; return whether it goes on."""
        failure = exchange.failure
        if isinstance(failure, RefusedError) and not exchange.started:
            raise failure
        if failure is not None:
            if isinstance(failure, UnreadError):
                self._tally.refused(UNREAD, "an answer was left unread")
            elif isinstance(failure, RefusedError):
                self._tally.refused(failure.reason, failure.detail)
            return False
        if not exchange.started and not exchange.gone:
            await exchange.fail()
        if not exchange.finished:
            return False
        if exchange.close and not self.link.inbound.ended and exchange.unread:
            await self.link.transport.linger()
        return not exchange.close

    def _asgi_scope(self, request: Request) -> Scope:
        path = request.path.decode()
        return {
            **self._scope,
            "method": request.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": request.path,
            "query_string": request.query,
            "headers": request.headers,
        }

    async def _refuse(self, refused: RefusedError) -> None:
        """Answer a request that is refused, and nothing after it."""
        self._tally.refused(refused.reason, refused.detail)
        body = problem(refused.status, refused.detail)
        head, *_ = encode_head(refused.status, PROBLEM_HEADERS, len(body), close=True)
        with suppress(OSError):  # it may have gone
            await self.link.transport.send(head + body)
            if refused.reason != SLOW_HEAD:  # of such there is nothing more to read
                await self.link.transport.linger()

    def _tell(self, request: Request, what: str, problem: Exception | None = None) -> None:
        self._tally.failed += 1
        where = f"{request.method} {request.path.decode()}"
        log.error("%s at %s", what, where, exc_info=problem)


def _is_of_the_client(problem: BaseException, exchange: Exchange) -> bool:
    """Whether an error only says that the client has gone, in whatever the application made of it."""
    if exchange.failure is not None and not exchange.started:
        return True  # the body ended early, and the application could not go on
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, ClientGoneError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
