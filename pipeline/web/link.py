"""Both directions of one client's connection."""

from __future__ import annotations

from pipeline.web.inbound import Inbound
from pipeline.web.limits import Limits
from pipeline.web.transport import Transport


class Link:
    """What a connection and the exchange on it share.

    Attributes:
        transport: for sending.
        inbound: what has arrived.
        draining: whether the next answer is the last.
    """

    __slots__ = ("draining", "inbound", "transport")

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self.transport = transport
        self.inbound = Inbound(transport, limits)
        self.draining = False
