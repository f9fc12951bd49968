"""Which bootstrap server to begin with: the first that lets this client in.

kafka-python takes one of the servers at random and gives it all the time that it has, so one server
that hangs spoils a start by chance. Here one after another is asked, for `SERVER_SECONDS` each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.config.model import KafkaConfig
from pipeline.kafka.errors import NoServerError
from pipeline.kafka.handshake import AwayError, RefusedError, shake_hands

log = logging.getLogger(__name__)

SERVER_SECONDS = 3.0
"""How long each server is waited for."""

PROXIES = ("proxy_url", "socks5_proxy")
"""Options with which only kafka-python knows the way to the servers."""

_answered: dict[tuple[str, ...], str] = {}
"""Servers → the one that answered last, which is asked first the next time."""


def usable_servers(kafka: KafkaConfig) -> Sequence[str]:
    """Return the server to begin with; all of them if they are behind a proxy. Blocks.

    Servers that don't answer are named in the log, if another does.

    Raises:
        NoServerError: none can be used.
    """
    if any(kafka.options.get(name) for name in PROXIES):
        return kafka.bootstrap_servers
    servers = kafka.bootstrap_servers
    last = _answered.get(servers)
    asked = sorted(servers, key=lambda server: server != last)
    failed: dict[str, str] = {}
    mistaken = False
    for server in asked:
        try:
            shake_hands(server, kafka.options, SERVER_SECONDS)
        except (AwayError, RefusedError) as error:
            failed[server] = str(error)
            mistaken = mistaken or isinstance(error, RefusedError)
            continue
        for name, reason in failed.items():
            log.warning("Kafka's server %s can't be used: %s; %s answers", name, reason, server)
        _answered[servers] = server
        return (server,)
    raise NoServerError(failed, mistaken=mistaken)


def unusable_servers(kafka: KafkaConfig) -> dict[str, str]:
    """Ask every server; return those that can't be used, with the reasons. Blocks.

    Raises:
        NoServerError: none can be used.
    """
    if any(kafka.options.get(name) for name in PROXIES):
        return {}
    failed: dict[str, str] = {}
    mistaken = False
    for server in kafka.bootstrap_servers:
        try:
            shake_hands(server, kafka.options, SERVER_SECONDS)
        except (AwayError, RefusedError) as error:
            failed[server] = str(error)
            mistaken = mistaken or isinstance(error, RefusedError)
        else:
            _answered[kafka.bootstrap_servers] = server
    if len(failed) == len(kafka.bootstrap_servers):
        raise NoServerError(failed, mistaken=mistaken)
    return failed
