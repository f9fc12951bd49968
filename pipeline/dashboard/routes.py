"""The dashboard's addresses: the page, its files, the state once and as server-sent events."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipeline.dashboard.model import DashboardModel
from pipeline.observe.tasks import describe_tasks

EVENT_SECONDS = 1.0
MAX_STREAMS = 20
"""Pages that are open at once; metrics and probes keep the rest of the connections."""
PAGE = Path(__file__).parent / "page"
FILES = {"/": ("index.html", "text/html"), "/dashboard.css": ("dashboard.css", "text/css"),
         "/dashboard.js": ("dashboard.js", "text/javascript")}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of names, ``localhost`` alone is taken for one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def dashboard_routes(model: DashboardModel) -> list[Route]:
    """Return the routes. They answer only requests whose ``Host`` is this machine itself.

    So a page elsewhere can't read them by a name of its own that it lets point to 127.0.0.1.
    """
    streams = trio.CapacityLimiter(MAX_STREAMS)

    async def events(_: Request) -> Response:
        if not streams.available_tokens:
            text = f"{MAX_STREAMS} pages are open already; close one\n"
            return PlainTextResponse(text, status_code=503, headers={"Retry-After": "10"})
        return EventStream(model, streams)

    async def answer(make: Callable[[], object], _: Request) -> Response:
        return JSONResponse(make())

    async def tasks(_: Request) -> Response:
        return PlainTextResponse(describe_tasks())

    async def file(name: str, kind: str, _: Request) -> Response:
        return Response(await trio.Path(PAGE / name).read_bytes(), media_type=kind)

    found = [Route(path, _guarded(partial(file, *given))) for path, given in FILES.items()]
    return [
        *found,
        Route("/api/state", _guarded(partial(answer, model.state))),
        Route("/api/history", _guarded(partial(answer, model.past))),
        Route("/api/tasks", _guarded(tasks)),
        Route("/api/events", _guarded(events)),
    ]


class EventStream(Response):
    """The state once every `EVENT_SECONDS` until the client goes, as server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, model: DashboardModel, streams: trio.CapacityLimiter) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._model = model
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send until the client has gone."""
        async with self._streams, trio.open_nursery() as nursery:
            nursery.start_soon(self._send, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        while True:
            text = f"data: {json.dumps(self._model.state())}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await trio.sleep(EVENT_SECONDS)


def _guarded(answer: Callable[[Request], object]) -> Callable[[Request], object]:
    """The answer with the headers of security; 403 for a ``Host`` that is not this machine."""

    async def guarded(request: Request) -> Response:
        if is_loopback(request.url.hostname or ""):
            response: Response = await answer(request)  # type: ignore[misc]
        else:
            text = "the dashboard is only for this machine: open it as 127.0.0.1 or localhost\n"
            response = PlainTextResponse(text, status_code=403)
        response.headers.update(HEADERS)
        return response

    return guarded
