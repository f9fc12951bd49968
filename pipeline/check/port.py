"""Whether ``[http] listen`` can be listened on, and if not, whether a pipeline does so already."""

from __future__ import annotations

import errno
import socket
from functools import partial
from urllib.request import urlopen

import attrs
import trio

from pipeline.config.mistakes import Mistake
from pipeline.config.model import HttpConfig

SECONDS = 2.0
"""How long whoever listens there already may take to say who it is."""


@attrs.frozen
class PortFacts:
    """Attributes: problem: why it can't be listened on, None if it can; ours: a pipeline does."""

    problem: str | None = None
    ours: bool = False


async def ask_port(http: HttpConfig | None) -> PortFacts:
    """Bind the address for a moment. A checkpoint; if cancelled, it returns at once."""
    if http is None:
        return PortFacts()
    return await trio.to_thread.run_sync(partial(_try, http), abandon_on_cancel=True)


def port_findings(facts: PortFacts) -> tuple[list[Mistake], list[Mistake]]:
    """Return mistakes and warnings."""
    if facts.problem is None:
        return [], []
    if facts.ours:
        told = f"{facts.problem}: a pipeline is there already, and a second instance needs another"
        return [], [Mistake("http.listen", told)]
    told = f"{facts.problem}; give another address or port (0 takes any free one)"
    return [Mistake("http.listen", told)], []


def _try(http: HttpConfig) -> PortFacts:
    where = f"[{http.host}]:{http.port}" if ":" in http.host else f"{http.host}:{http.port}"
    try:
        found = socket.getaddrinfo(
            http.host, http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        ours = error.errno == errno.EADDRINUSE and _is_a_pipeline(where)
        return PortFacts(f"can't listen on {where}: {error.strerror}", ours)
    return PortFacts()


def _is_a_pipeline(where: str) -> bool:
    try:
        with urlopen(f"http://{where}/metrics", timeout=SECONDS) as answer:
            return b"pipeline_" in answer.read(64 * 1024)
    except (OSError, ValueError):
        return False
