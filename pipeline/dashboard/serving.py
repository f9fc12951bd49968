"""Starting the dashboard of an instance, with its metrics and probes, and telling the group of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from pipeline.config.model import HttpConfig
from pipeline.contracts.presence import Presence, Presences
from pipeline.dashboard.access import Access, is_loopback
from pipeline.dashboard.group import GroupView
from pipeline.dashboard.model import Model
from pipeline.dashboard.routes import dashboard_routes
from pipeline.observe.health import Health
from pipeline.observe.http import serve_http
from pipeline.observe.metrics import Metrics

log = logging.getLogger(__name__)


async def start_dashboard(
    nursery: trio.Nursery,
    http: HttpConfig,
    metrics: Metrics,
    health: Health,
    model: Model,
    presences: Presences,
    announce: Callable[[Presence], Awaitable[None]],
) -> None:
    """Serve metrics and probes; the dashboard too, if the address is this machine's or has a token.

    Args:
        nursery: what runs it all, until it is cancelled.
        model: what this instance tells of itself.
        presences: the other instances.
        announce: tells others of this one until cancelled; not called without a dashboard.

    Raises:
        HttpError: the address can't be listened on.
    """
    allowed = bool(http.tokens) or is_loopback(http.host)
    routes = []
    if allowed:
        group = GroupView(model, presences, http.tokens)
        routes = dashboard_routes(model, group, Access(http.tokens))
    port = await nursery.start(serve_http, http, metrics, health, routes)
    if not allowed:
        log.info(
            "no dashboard on %s: on an address that others reach it needs http.token", http.host
        )
        return
    nursery.start_soon(model.run)
    nursery.start_soon(announce, model.identity.presence(http, port))
