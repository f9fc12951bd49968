"""Wishes as messages of the control topic: a key, and JSON.

The key is ``KIND/ID``, by which the topic is compacted; a message without a value removes the wish. The
value is one JSON object. A newer version may add fields, which are kept, and kinds, which are ignored;
`Unreadable` says so, for whoever reads to tell it once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from pipeline.contracts.rule import Rule, plain_from_json, plain_to_json
from pipeline.contracts.wish import AnyWish, Hold, HoldState, Pause, RateLimit, Ruling, Scope

KINDS: Mapping[str, type[AnyWish]] = {
    "hold": Hold,
    "pause": Pause,
    "limit": RateLimit,
    "ruling": Ruling,
}


class Unreadable(ValueError):
    """A message that is no wish that this version knows; the text says why, without what it holds."""


def key_of(wish: AnyWish) -> bytes:
    """Return the key of a wish's messages."""
    return f"{kind_of(wish)}/{wish.id}".encode()


def kind_of(wish: AnyWish) -> str:
    """Return the kind of a wish, as its messages name it."""
    return next(kind for kind, its_class in KINDS.items() if type(wish) is its_class)


def id_of(key: bytes | None) -> str | None:
    """Return the id in the key of a message; None if the key is of no kind known here."""
    kind, _, wish_id = (key or b"").decode("utf-8", "replace").partition("/")
    return wish_id if kind in KINDS and wish_id else None


def to_json(wish: AnyWish) -> dict[str, Any]:
    """Return a wish as an object for JSON: what its message holds."""
    own = {
        field.name: _field_to_json(getattr(wish, field.name))
        for field in attrs.fields(type(wish))
        if field.name != "extra"
    }
    return {"kind": kind_of(wish), **own, **wish.extra}


def _field_to_json(value: Any) -> Any:
    if isinstance(value, Rule):
        return value.to_json()
    if isinstance(value, Scope):
        return {k: v for k, v in attrs.asdict(value).items() if v is not None}
    if isinstance(value, HoldState):
        return value.value
    return value if value is None else plain_to_json(value)


def encode(wish: AnyWish) -> bytes:
    """Return the value of a wish's message."""
    return json.dumps(to_json(wish), separators=(",", ":")).encode()


def decode(key: bytes | None, value: bytes) -> AnyWish:
    """Read a message. A hold in a state that is not known is held: nothing is lost by that.

    Raises:
        Unreadable: it is none that this version knows.
    """
    kind, _, wish_id = (key or b"").decode("utf-8", "replace").partition("/")
    if kind not in KINDS:
        raise Unreadable(f"the kind {kind!r} is not known to this version")
    try:
        found = json.loads(value)
    except ValueError as error:
        raise Unreadable(f"{kind} {wish_id} is not JSON") from error
    if not isinstance(found, dict):
        raise Unreadable(f"{kind} {wish_id} is not a JSON object")
    try:
        return _wish(KINDS[kind], {**found, "id": wish_id})
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{kind} {wish_id} can't be read: {error}") from error


def _wish(its_class: type[AnyWish], found: dict[str, Any]) -> AnyWish:
    found.pop("kind", None)
    known = {field.name for field in attrs.fields(its_class)} - {"extra"}
    given = {name: _READERS[name](value) for name, value in found.items() if name in known}
    extra = {name: value for name, value in found.items() if name not in known}
    return its_class(**given, extra=extra)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


def _rate(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        raise ValueError("expected a rate of 0 or more")
    return float(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _state(value: Any) -> HoldState:
    try:
        return HoldState(value)
    except ValueError:
        return HoldState.HOLDING


def _scope(value: Any) -> Scope:
    if not isinstance(value, Mapping) or not set(value) <= {"shard", "topic", "partition"}:
        raise ValueError("what it stops is not known to this version")
    partition = value.get("partition")
    return Scope(
        shard=None if value.get("shard") is None else _text(value["shard"]),
        topic=None if value.get("topic") is None else _text(value["topic"]),
        partition=None if partition is None else _whole(partition),
    )


_READERS: Mapping[str, Any] = {
    "id": _text,
    "by": _text,
    "since": _whole,
    "until": lambda value: None if value is None else _whole(value),
    "why": _text,
    "rule": Rule.from_json,
    "state": _state,
    "changed": _whole,
    "what": _scope,
    "tenant": plain_from_json,
    "rate": _rate,
    "topic": _text,
    "topic_id": _text,
    "partition": _whole,
    "offset": _whole,
    "drop": _switch,
}
