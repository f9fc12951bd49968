"""The dashboard's addresses: the page, its files, the state once and as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipeline.dashboard.access import HEADERS, Access
from pipeline.dashboard.group import GroupView
from pipeline.dashboard.model import Model
from pipeline.dashboard.peers import HISTORY, STATE
from pipeline.observe.tasks import describe_tasks

Answer = Callable[[Request], Awaitable[Response]]

EVENT_SECONDS = 1.0
MAX_STREAMS = 20
"""Pages that are open at once; metrics and probes keep the rest of the connections."""
PAGE = Path(__file__).parent / "page"
FILES = {"/": ("index.html", "text/html"), "/dashboard.css": ("dashboard.css", "text/css"),
         "/dashboard.js": ("dashboard.js", "text/javascript")}  # fmt: skip


def dashboard_routes(model: Model, group: GroupView, access: Access) -> list[Route]:
    """Return the routes: of this instance for others, of the whole group for people."""
    streams = trio.CapacityLimiter(MAX_STREAMS)

    async def events(_: Request) -> Response:
        if not streams.available_tokens:
            text = f"{MAX_STREAMS} pages are open already; close one\n"
            return PlainTextResponse(text, status_code=503, headers={"Retry-After": "10"})
        return EventStream(group, streams)

    async def mine(make: Callable[[], dict[str, object]], _: Request) -> Response:
        return JSONResponse({"id": model.identity.id, "role": model.identity.role, **make()})

    async def all_of(make: Callable[[], Awaitable[object]], _: Request) -> Response:
        return JSONResponse(await make())

    async def tasks(_: Request) -> Response:
        return PlainTextResponse(describe_tasks())

    async def file(name: str, kind: str, _: Request) -> Response:
        return Response(await trio.Path(PAGE / name).read_bytes(), media_type=kind)

    answers: dict[str, Answer] = {
        **{path: partial(file, *given) for path, given in FILES.items()},
        STATE: partial(mine, model.state),
        HISTORY: partial(mine, lambda: {"owner": model.identity.owner, **model.past()}),
        "/api/state": partial(all_of, group.state),
        "/api/history": partial(all_of, group.past),
        "/api/tasks": tasks,
        "/api/events": events,
    }
    return [Route(path, _guarded(answer, access)) for path, answer in answers.items()]


class EventStream(Response):
    """The group's state once every `EVENT_SECONDS` until the client goes, as server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, group: GroupView, streams: trio.CapacityLimiter) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._group = group
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
            text = f"data: {json.dumps(await self._group.state())}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await trio.sleep(EVENT_SECONDS)


def _guarded(answer: Answer, access: Access) -> Answer:
    """The answer, or a refusal; with the headers of security."""

    async def guarded(request: Request) -> Response:
        response = access.refusal(request) or await answer(request)
        response.headers.update(HEADERS)
        return response

    return guarded
