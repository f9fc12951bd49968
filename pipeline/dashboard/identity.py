"""Which instance this is, for its own page and for the others."""

from __future__ import annotations

import secrets
import socket
import time
from importlib.metadata import PackageNotFoundError, version

import attrs

from pipeline.config.model import Config, HttpConfig
from pipeline.contracts.presence import Presence
from pipeline.dashboard.access import is_loopback
from pipeline.web.binding import Tcp

WILDCARDS = ("0.0.0.0", "::")


def program_version() -> str:
    """Return the version that is installed; empty if none is."""
    try:
        return version("kafka-to-postgres")
    except PackageNotFoundError:
        return ""


@attrs.frozen
class Identity:
    """One instance.

    Attributes:
        id: of this process; drawn at random.
        owner: how the ledger names it.
        role: ``run`` or ``ingest``.
        name: of the pipeline.
        group: the consumer group.
        machine: the name of its machine.
        since: when it began, in seconds since the epoch.
        version: of the program.
    """

    id: str
    owner: str
    role: str
    name: str
    group: str
    machine: str = attrs.field(factory=socket.gethostname)
    since: float = attrs.field(factory=time.time)
    version: str = attrs.field(factory=program_version)

    @classmethod
    def of(cls, config: Config, role: str) -> Identity:
        """Return a new identity for this process."""
        given = config.pipeline
        return cls(secrets.token_hex(6), given.owner, role, given.name, config.kafka.group_id)

    def presence(self, http: HttpConfig, port: int) -> Presence:
        """Return what others are told, when this instance listens at a port."""
        host = self.machine if http.host in WILDCARDS else http.host
        return Presence(
            id=self.id, owner=self.owner, role=self.role, machine=self.machine,
            address=str(Tcp(host, port)) if http.advertise is None else str(Tcp(*http.advertise)),
            loopback=http.advertise is None and is_loopback(http.host),
            version=self.version, since=int(self.since * 1000), at=0,
        )  # fmt: skip
