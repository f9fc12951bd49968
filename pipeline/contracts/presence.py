"""Where an instance of the group answers over HTTP, as a message of the control topic.

The key is ``instance/ID``. An instance writes it when it serves HTTP, again every `REFRESH_SECONDS`, and
removes it at its end. One that was killed leaves its message behind: it is stale after `STALE_SECONDS`,
and removed by others after `FORGET_SECONDS`. Versions that know no such kind ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from typing import Any

import attrs

KIND = "instance"

REFRESH_SECONDS = 120.0
STALE_SECONDS = 300.0
FORGET_SECONDS = 24 * 3600.0


class TopicState(Enum):
    """What is known of the control topic."""

    UNKNOWN = "unknown"
    """Kafka has not told yet."""
    FOLLOWED = "followed"
    ABSENT = "absent"
    FORBIDDEN = "forbidden"
    """This user may not read it."""


@attrs.frozen(kw_only=True)
class Presence:
    """One running instance.

    Attributes:
        id: of this process: a restart has another.
        owner: how the ledger names it (``pipeline.owner``).
        role: ``run`` or ``ingest``.
        machine: the name of its machine.
        address: ``HOST:PORT`` that others reach it at.
        loopback: whether only its own machine reaches it.
        version: of the program.
        since: when it began, in ms since the epoch.
        at: when it wrote this, in ms since the epoch.
    """

    id: str
    owner: str
    role: str
    machine: str
    address: str
    loopback: bool
    version: str
    since: int
    at: int

    def age(self, now: float) -> float:
        """Seconds since it was written, at ``now`` in seconds since the epoch."""
        return now - self.at / 1000


class UnreadablePresence(ValueError):
    """A message that says where an instance is, but not in a way that this version knows."""


def presence_key(presence_id: str) -> bytes:
    """Return the key of an instance's messages."""
    return f"{KIND}/{presence_id}".encode()


def presence_id(key: bytes | None) -> str | None:
    """Return the id in the key of a message; None if the message is not of an instance."""
    kind, _, found = (key or b"").decode("utf-8", "replace").partition("/")
    return found if kind == KIND and found else None


def encode_presence(presence: Presence) -> bytes:
    """Return the value of an instance's message."""
    return json.dumps({"kind": KIND, **attrs.asdict(presence)}, separators=(",", ":")).encode()


def decode_presence(key: bytes | None, value: bytes) -> Presence:
    """Read a message; fields that are not known are left out.

    Raises:
        UnreadablePresence: it can't be read; the text says why, without what it holds.
    """
    found = presence_id(key)
    try:
        told = json.loads(value)
    except ValueError as error:
        raise UnreadablePresence(f"instance {found} is not JSON") from error
    if found is None or not isinstance(told, dict):
        raise UnreadablePresence(f"instance {found} is not a JSON object")
    given = {name: _field(told.get(name), kind) for name, kind in _FIELDS.items()}
    if wrong := [name for name, each in given.items() if each is None]:
        raise UnreadablePresence(f"instance {found} lacks {', '.join(wrong)}")
    return Presence(id=found, **given)


_FIELDS = {"owner": str, "role": str, "machine": str, "address": str, "loopback": bool,
           "version": str, "since": int, "at": int}  # fmt: skip


def _field(value: Any, kind: type) -> Any:
    return value if type(value) is kind else None


class Presences:
    """The instances that the control topic tells of. In Trio's thread only; no method is a checkpoint."""

    def __init__(self) -> None:
        self.topic = TopicState.UNKNOWN
        self._known: dict[str, Presence] = {}

    def all(self) -> list[Presence]:
        """Return every instance that was told of, by owner."""
        return sorted(self._known.values(), key=lambda each: (each.owner, each.id))

    def replace(self, found: Iterable[Presence]) -> None:
        """These are all that there are."""
        self._known = {each.id: each for each in found}

    def put(self, presence: Presence) -> None:
        """Add an instance, or what it says anew."""
        self._known[presence.id] = presence

    def remove(self, presence_id: str) -> None:
        """Forget an instance; nothing happens if it is not known."""
        self._known.pop(presence_id, None)
