"""``[http] listen``: metrics, and whether the process is alive and ready."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import cast

import trio
from hypercorn.config import Config as ServerConfig
from hypercorn.trio import serve
from hypercorn.typing import Framework
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.config.model import HttpConfig
from pipeline.errors import PipelineError
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics

log = logging.getLogger(__name__)

BACKLOG = 100
RESTART_SECONDS = 0.1
UNREAD_SECONDS = 5.0
"""How long a client may leave an answer unread before its connection is cut.

Hypercorn shields its sending from cancellation, so a client that stopped reading would hold up the
end of the whole program. The kernel cuts it instead: ``TCP_USER_TIMEOUT`` (tcp(7)) on the listening
socket is inherited by its connections.
"""

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
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    unread_seconds: float = UNREAD_SECONDS,
) -> None:
    """Serve until cancelled; for ``nursery.start``, which gives the port listened on.

    Cancellation ends it at once, but for a client that doesn't read its answer: then within
    ``unread_seconds``.

    Raises:
        HttpError: the address can't be listened on.
    """
    with await _listen(config, unread_seconds) as listener:
        port: int = listener.getsockname()[1]
        log.info("metrics and health on http://%s", _address(config.host, port))
        task_status.started(port)
        # Hypercorn's types spell out what Starlette's leave open.
        await _serve_for_ever(cast(Framework, application(metrics, health)), listener)


async def _serve_for_ever(framework: Framework, listener: socket.socket) -> None:
    """Hypercorn, started again where a request brings it down.

    One with ``Upgrade: h2c`` and settings that aren't base64 does (0.18): the error leaves the
    connection's task and ends the server. It must not end the consumer. The listening socket stays
    open meanwhile, so nobody is refused.
    """
    while True:
        try:
            await serve(framework, _server_config(listener))
        except Exception:  # Hypercorn's, whatever it is: it must not end the consumer
            log.exception("the HTTP server failed and is started again")
        await trio.sleep(RESTART_SECONDS)


def application(metrics: Metrics, health: Health) -> Starlette:
    """The ASGI application: ``/metrics``, ``/livez``, ``/readyz``, and ``/`` that links them."""

    async def index(_: Request) -> Response:
        return HTMLResponse(INDEX)

    async def render(_: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return Starlette(
        routes=[
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


async def _listen(config: HttpConfig, unread_seconds: float) -> socket.socket:
    """Bind and listen here: Hypercorn's own errors name neither the address nor the key."""
    where = _address(config.host, config.port)
    try:
        found = await trio.socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as problem:
        raise _refused(where, problem) from problem
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        milliseconds = int(unread_seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as problem:
        listener.close()
        raise _refused(where, problem) from problem
    return listener


def _refused(where: str, problem: OSError) -> HttpError:
    return HttpError(
        f"can't listen on {where}: {problem.strerror};"
        " give http.listen in the configuration another address or port (0 takes any free one)"
    )


def _server_config(listener: socket.socket) -> ServerConfig:
    """Hypercorn's settings; it gets a duplicate of the socket. It logs nothing below a warning."""
    config = ServerConfig()
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.backlog = BACKLOG
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    config.include_server_header = False
    return config


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
