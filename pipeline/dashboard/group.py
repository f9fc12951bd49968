"""The whole group in one document: what each instance says of itself, put together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import trio

from pipeline.contracts.presence import Presence, Presences, TopicState
from pipeline.contracts.snapshot import Phase
from pipeline.dashboard.apart import MOST_LANES, heaviest, lanes_of
from pipeline.dashboard.history import merged_history
from pipeline.dashboard.model import Model
from pipeline.dashboard.peers import HISTORY, STATE, Peers, Seen
from pipeline.dashboard.sampled import weighted_mean

FRESH_SECONDS = 0.8
"""So long a document serves all who look: pages, terminals, programs."""

UNOWNED = "unknown"
"""The state of a partition that no instance that answers has."""

STATES = ("closed", "half-open", "open")
"""A shard's, the better before the worse."""

Told = Mapping[str, Any]


class GroupView:
    """What any instance shows: all of them, as far as they are known and answer. In Trio.

    Args:
        model: this instance.
        presences: the others, and whether the control topic can tell of them.
        tokens: of ``[http] token``.
        clock: the wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        model: Model,
        presences: Presences,
        tokens: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model = model
        self._presences = presences
        self._peers = Peers(model.identity, presences, tokens, clock)
        self._clock = clock
        self._asking = {STATE: trio.Lock(), HISTORY: trio.Lock()}
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    async def state(self) -> dict[str, Any]:
        """Return how the group is, `FRESH_SECONDS` old at most. A checkpoint."""
        return await self._once(STATE, self._state)

    async def past(self) -> dict[str, Any]:
        """Return the group's last hour, and without whom it is. A checkpoint."""
        return await self._once(HISTORY, self._past)

    async def _once(self, path: str, make: Callable[[Sequence[Seen]], Any]) -> dict[str, Any]:
        async with self._asking[path]:
            at, found = self._known.get(path, (0.0, {}))
            if not found or trio.current_time() - at > FRESH_SECONDS:
                found = make(await self._peers.ask(path))
                self._known[path] = (trio.current_time(), found)
            return found

    def _state(self, others: Sequence[Seen]) -> dict[str, Any]:
        whole = self._presences.topic is TopicState.FOLLOWED
        found = merged(self._model.state(), others, whole=whole)
        return {**found, "scope": "group" if whole else "instance", "note": self._note()}

    def _past(self, others: Sequence[Seen]) -> dict[str, Any]:
        mine = {**attrs.asdict(self._model.identity), **self._model.past()}
        found = merged_history([mine, *(each.told for each in others if each.told is not None)])
        silent = sorted(each.presence.owner for each in others if each.told is None)
        return {**found, "without": silent}

    def _note(self) -> str:
        topic = f"{self._model.identity.group}.control"
        known = any(each.id == self._model.identity.id for each in self._presences.all())
        return {
            TopicState.FOLLOWED: "" if known else (
                f"other instances don't see this one: it is not on topic {topic} (yet)"
            ),
            TopicState.ABSENT: (
                f"this instance only: others are found on topic {topic}, which is not there. Create it"
                " (compacted, one partition), or let the first `pipeline pause` or `hold` do that"
            ),
            TopicState.FORBIDDEN: f"this instance only: no right to read topic {topic}",
            TopicState.UNKNOWN: f"this instance only: Kafka has not told of topic {topic} yet",
        }[self._presences.topic]  # fmt: skip


def merged(mine: Told, others: Sequence[Seen], *, whole: bool) -> dict[str, Any]:
    """Put together what an instance and the others say.

    Args:
        mine: the instance's own state.
        others: what the others say, or why they say nothing.
        whole: whether these are all that there are: then a partition that none of them has is shown too.
    """
    told = [mine, *(each.told for each in others if each.told is not None)]
    partitions = _partitions(told)
    lanes = lanes_of(partitions)
    if whole and any(each.get("role") == "run" for each in told):
        partitions += _unowned(partitions, told)
    partitions.sort(key=lambda each: (str(each["topic"]), each["partition"]))
    lags: list[Any] = [each.get("message_lag") for each in partitions]
    ages: list[Any] = [each.get("time_lag_seconds") for each in partitions]
    runs, ingests = _with_role(told, "run"), _with_role(told, "ingest")
    return {
        "name": mine["name"],
        "group": mine["group"],
        "at": mine["at"],
        "asked": mine["id"],
        "rate": _total(each.get("rate") for each in runs),
        "accepted_rate": _total(each.get("rate") for each in ingests),
        "accepted_to_visible_seconds": weighted_mean(
            [(each.get("visible") or 0, each.get("accepted_to_visible_seconds")) for each in runs]
        )[1],
        "message_lag": None if None in lags else sum(lags),
        "time_lag_seconds": None if None in ages else max(ages, default=0.0),
        "instances": _instances(mine, others),
        "partitions": partitions,
        "lanes": lanes[:MOST_LANES],
        "lanes_left_out": len(lanes[MOST_LANES:]),
        "shards": _shards(told),
        "pauses": _wishes(told, "pauses"),
        "holds": _wishes(told, "holds"),
        "tenants": heaviest(told, "tenants"),
        "keys": heaviest(told, "keys"),
        "dead_letters": _dead_letters(told),
    }


def _with_role(told: Iterable[Told], role: str) -> list[Told]:
    return [each for each in told if each.get("role") == role]


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _instances(mine: Told, others: Sequence[Seen]) -> list[dict[str, Any]]:
    found = [_instance(mine, None)]
    for each in others:
        found.append(
            _instance(each.told, each.presence) if each.told is not None
            else _silent(each.presence, each.problem)
        )  # fmt: skip
    return sorted(found, key=lambda each: (each["role"], each["owner"], each["id"]))


def _instance(told: Told, presence: Presence | None) -> dict[str, Any]:
    names = ("id", "owner", "role", "machine", "version", "since", "rate", "trouble", "ingest")
    return {
        **{name: told.get(name) for name in names},
        "address": None if presence is None else presence.address,
        "partitions": len(told["partitions"]),
        "message_lag": told.get("message_lag"),
        "time_lag_seconds": told.get("time_lag_seconds"),
        "answers": True,
        "problem": "",
    }


def _silent(presence: Presence, problem: str) -> dict[str, Any]:
    return {
        "id": presence.id, "owner": presence.owner, "role": presence.role,
        "machine": presence.machine, "version": presence.version, "since": presence.since / 1000,
        "rate": None, "trouble": [], "ingest": None, "address": presence.address,
        "partitions": None, "message_lag": None, "time_lag_seconds": None,
        "answers": False, "problem": problem,
    }  # fmt: skip


_PREFERRED = {phase.value: rank for rank, phase in enumerate(
    (Phase.RUNNING, Phase.OPENING, Phase.DRAINING, Phase.ENDED))}  # fmt: skip


def _partitions(told: Iterable[Told]) -> list[dict[str, Any]]:
    """All partitions; of one that is handed over just now, as the newer owner tells it."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for each in told:
        for given in each["partitions"]:
            mine = {**given, "owner": each.get("owner"), "instance": each.get("id")}
            key = (mine.get("topic"), mine.get("partition"))
            if key not in found or _rank(mine) < _rank(found[key]):
                found[key] = mine
    return list(found.values())


def _rank(partition: Mapping[str, Any]) -> int:
    return _PREFERRED.get(str(partition.get("state")), len(_PREFERRED))


def _unowned(partitions: Iterable[Told], told: Iterable[Told]) -> list[dict[str, Any]]:
    shown = {(each["topic"], each["partition"]) for each in partitions}
    topics: dict[str, int] = {}
    for each in told:
        for topic, count in each["topics"].items():
            topics[topic] = max(count, topics.get(topic, 0))
    return [
        {"topic": topic, "partition": number, "shard": None, "state": UNOWNED,
         "owner": None, "instance": None, "state_seconds": None, "watermark": None,
         "message_lag": None, "time_lag_seconds": None, "buffered": None, "answers": False, "paused": None,
         "waits_for": "an owner: no instance that answers has it"}
        for topic, count in topics.items() for number in range(count)
        if (topic, number) not in shown
    ]  # fmt: skip


def _shards(told: Iterable[Told]) -> list[dict[str, Any]]:
    """Each shard over all instances: sums, the mean latency, and the worst that any of them has."""
    by_name: dict[str, list[Told]] = defaultdict(list)
    for each in told:
        for shard in each["shards"]:
            by_name[str(shard.get("shard"))].append({**shard, "owner": each.get("owner")})
    return [_shard(name, by_name[name]) for name in sorted(by_name)]


def _shard(name: str, found: Sequence[Told]) -> dict[str, Any]:
    count, latency = weighted_mean(
        [(each.get("transactions") or 0, each.get("latency_seconds")) for each in found]
    )
    worst = max(found, key=lambda each: _severity(str(each.get("state"))))
    troubles = dict.fromkeys(each["trouble"] for each in found if each.get("trouble"))
    return {
        "shard": name,
        "state": worst.get("state"),
        "limit": sum(each.get("limit") or 0 for each in found),
        "in_flight": sum(each.get("in_flight") or 0 for each in found),
        "busy": sum(each.get("busy") or 0 for each in found),
        "transactions": count,
        "latency_seconds": latency,
        "instances": len(found),
        "trouble": "; ".join(troubles),
    }  # fmt: skip


def _severity(state: str) -> int:
    return STATES.index(state) if state in STATES else len(STATES)


def _wishes(told: Iterable[Told], name: str) -> list[Any]:
    found = {str(wish.get("id")): wish for each in told for wish in each[name]}
    return [found[key] for key in sorted(found)]


def _dead_letters(told: Iterable[Told]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in told:
        for kind, count in each["dead_letters"].items():
            found[kind] = found.get(kind, 0) + count
    return dict(sorted(found.items()))
