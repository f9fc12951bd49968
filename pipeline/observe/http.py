"""``[http] listen``: metrics, and whether the process is alive and ready."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

import trio
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.config.model import HttpConfig
from pipeline.errors import PipelineError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.web.asgi import App
from pipeline.web.binding import ListenError, Tcp, listen
from pipeline.web.limits import Limits
from pipeline.web.server import serve

log = logging.getLogger(__name__)

LIMITS = Limits(connections=100, body_bytes=1_024)
"""Prometheus and probes need no more."""

INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>pipeline</title></head><body><h1>pipeline</h1><ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/livez">/livez</a>: 200, or 503 with the reasons to restart it</li>
<li><a href="/readyz">/readyz</a>: 200, or 503 with the reasons why it doesn't work yet</li>
</ul></body></html>
"""


class HttpError(PipelineError):
    """The configured address can't be listened on; the message names it and the key."""


async def serve_http(
    config: HttpConfig,
    metrics: Metrics,
    health: Health,
    more: Sequence[Route] = (),
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; for ``nursery.start``, which gives the port listened on.

    Routes of ``more`` go before those of here, so one for ``/`` replaces the links.

    Cancellation ends it at once.

    Raises:
        HttpError: the address can't be listened on.
    """
    binding = Tcp(config.host, config.port)
    try:
        listeners = await listen(binding)
    except ListenError as problem:
        raise HttpError(
            f"{problem}; give http.listen in the configuration another address or port"
            " (0 takes any free one)"
        ) from problem
    port: int = listeners[0].getsockname()[1]
    log.info("metrics and health on http://%s", Tcp(config.host, port))
    task_status.started(port)
    # Starlette's types spell out less than ASGI's.
    await serve(cast(App, application(metrics, health, more)), listeners, LIMITS)


def application(metrics: Metrics, health: Health, more: Sequence[Route] = ()) -> Starlette:
    """The ASGI application: ``/metrics``, ``/livez``, ``/readyz``, and ``/`` that links them."""

    async def index(_: Request) -> Response:
        return HTMLResponse(INDEX)

    async def render(_: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return Starlette(
        routes=[
            *more,
            Route("/", index),
            Route("/metrics", render),
            _probe("/livez", health.live),
            _probe("/readyz", health.ready, health.notes),
        ]
    )


def _probe(
    path: str, reasons: Callable[[], list[str]], notes: Callable[[], list[str]] = list
) -> Route:
    async def answer(_: Request) -> Response:
        lines = reasons()
        text = "".join(f"{line}\n" for line in [*(lines or ["ok"]), *notes()])
        return PlainTextResponse(text, status_code=503 if lines else 200)

    return Route(path, answer)
