"""Asking an instance for what its dashboard shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio

from pipeline.config.model import Config
from pipeline.errors import PipelineError, UsageError
from pipeline.web.client import NoAnswerError, get

ANSWER_SECONDS = 5.0
"""How long the answer may take: the instance itself waits two seconds for the others, all at once."""

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class NotAnsweredError(PipelineError):
    """The instance gives no answer that can be shown; the message says why, and what to do."""


@attrs.frozen
class Address:
    """Where an instance serves its dashboard, and with which tokens it can be asked."""

    host: str
    port: int
    tokens: Sequence[str] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def address_of(url: str | None, config: Config | None) -> Address:
    """Return the address that is given, or else the one that the configuration says.

    Raises:
        UsageError: there is none, or it can't be used.
    """
    http = None if config is None else config.http
    tokens = () if http is None else http.tokens
    if url is not None:
        return _parsed(url, tokens)
    if http is None:
        raise UsageError(
            "the configuration has no [http] listen, so no instance serves its state: add it, or"
            " name an instance with --url http://HOST:PORT"
        )
    if http.port == 0:
        raise UsageError(
            "http.listen takes any free port (0): the log says which (metrics and health on ...);"
            " name it with --url http://HOST:PORT"
        )
    return Address(WILDCARDS.get(http.host, http.host), http.port, tokens)


def _parsed(url: str, tokens: Sequence[str]) -> Address:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise UsageError("--url: expected an address such as http://127.0.0.1:9187")
    return Address(parts.hostname, port, tokens)


async def ask(address: Address) -> dict[str, Any]:
    """Return the group's state as an instance shows it. A checkpoint.

    Raises:
        NotAnsweredError: it does not answer, or not as it should.
    """
    headers = {"Authorization": f"Bearer {address.tokens[0]}"} if address.tokens else {}
    try:
        with trio.fail_after(ANSWER_SECONDS):
            answer = await get(address.host, address.port, "/api/state", headers)
    except trio.TooSlowError:
        raise NotAnsweredError(f"{address} gives no answer within {ANSWER_SECONDS:g} s") from None
    except NoAnswerError as error:
        raise NotAnsweredError(
            f"{address} does not answer: {error}. Does an instance run there (pipeline run)?"
        ) from error
    if answer.status in (401, 403):
        raise NotAnsweredError(f"{address} refuses: it needs the http.token of its configuration")
    try:
        state = json.loads(answer.body) if answer.status == 200 else None
    except ValueError:
        state = None
    if not isinstance(state, dict) or "partitions" not in state or "instances" not in state:
        raise NotAnsweredError(
            f"{address} serves no dashboard: it has one on a loopback address, or with http.token"
        )
    return state
