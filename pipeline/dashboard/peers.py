"""The other instances of the group, asked over HTTP for what each of them does.

They are found on the control topic (`pipeline.contracts.presence`). Nobody is asked while nobody looks.
One that doesn't answer in time, or not as it should, is part of the result, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from pipeline.contracts.presence import FORGET_SECONDS, STALE_SECONDS, Presence, Presences
from pipeline.dashboard.identity import Identity
from pipeline.web.client import NoAnswerError, get

ASK_SECONDS = 2.0
"""How long an instance may take to answer."""

RETRY_SECONDS = 5.0
"""One that did not answer is asked again after that, and not for each look: it would slow all down."""

MAX_PEERS = 100
"""So many are asked; any others are shown as not asked."""

STATE, HISTORY = "/api/instance", "/api/instance/history"

LISTS = ("partitions", "shards", "pauses", "holds", "tenants", "keys", "trouble")
MAPS = ("topics", "dead_letters")


@attrs.frozen
class Seen:
    """One other instance, as it was found.

    Attributes:
        presence: what the control topic says of it.
        told: what it answered; None: nothing that can be used.
        problem: why not; empty if it answered.
    """

    presence: Presence
    told: Mapping[str, Any] | None
    problem: str = ""


class Peers:
    """Asks the others. In Trio.

    Args:
        identity: who asks: it doesn't ask itself.
        presences: who there is.
        tokens: the first of them is shown to the others.
        clock: the wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        identity: Identity,
        presences: Presences,
        tokens: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._presences = presences
        self._headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
        self._clock = clock
        self._failed: dict[str, tuple[float, str]] = {}  # id → when, and why

    async def ask(self, path: str) -> list[Seen]:
        """Ask all at once; return what each said, or why it said nothing. A checkpoint."""
        now = self._clock()
        others = [
            each for each in self._presences.all()
            if each.id != self._identity.id and each.age(now) <= FORGET_SECONDS
        ]  # fmt: skip
        others.sort(key=lambda each: each.age(now))
        found: dict[str, Seen] = {}

        async def ask(presence: Presence) -> None:
            found[presence.id] = await self._asked(presence, path)

        async with trio.open_nursery() as nursery:
            for each in others[:MAX_PEERS]:
                nursery.start_soon(ask, each)
        for each in others[MAX_PEERS:]:
            found[each.id] = Seen(each, None, f"not asked: there are more than {MAX_PEERS}")
        self._failed = {key: value for key, value in self._failed.items() if key in found}
        # Who doesn't answer, and doesn't refresh its message either, has been killed.
        return [
            each for each in found.values()
            if each.told is not None or each.presence.age(now) <= STALE_SECONDS
        ]  # fmt: skip

    async def _asked(self, presence: Presence, path: str) -> Seen:
        since, why = self._failed.get(presence.id, (-RETRY_SECONDS, ""))
        if why and trio.current_time() - since < RETRY_SECONDS:
            return Seen(presence, None, why)
        if presence.loopback and presence.machine != self._identity.machine:
            return Seen(
                presence, None, "listens on its own machine only: see http.listen and token"
            )
        try:
            with trio.fail_after(ASK_SECONDS):
                told = await self._told(presence, path)
        except trio.TooSlowError:
            why = f"no answer within {ASK_SECONDS:g} s"
        except NoAnswerError as error:
            why = str(error)
        else:
            self._failed.pop(presence.id, None)
            return Seen(presence, told)
        self._failed[presence.id] = (trio.current_time(), why)
        return Seen(presence, None, why)

    async def _told(self, presence: Presence, path: str) -> Mapping[str, Any]:
        """Return what an instance says.

        Raises:
            NoAnswerError: nothing that can be used.
        """
        host, _, port = presence.address.rpartition(":")
        if not port.isdecimal():
            raise NoAnswerError("its address can't be read")
        answer = await get(host.strip("[]"), int(port), path, self._headers)
        if answer.status in (401, 403):
            raise NoAnswerError("it refuses: http.token must be the same on all instances")
        try:
            told = json.loads(answer.body) if answer.status == 200 else None
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("id") != presence.id:
            raise NoAnswerError("another program answers there")
        return readable(told)


def readable(told: dict[str, Any]) -> Mapping[str, Any]:
    """Return an answer in which what is gone through is there: another version may have none of it."""
    lists = {name: _as(list, told.get(name)) for name in LISTS}
    maps = {name: _as(dict, told.get(name)) for name in MAPS}
    for name in lists.keys() - {"trouble"}:
        lists[name] = [each for each in lists[name] if isinstance(each, dict)]
    return {**told, **lists, **maps}


def _as(kind: type[Any], value: Any) -> Any:
    return value if isinstance(value, kind) else kind()
