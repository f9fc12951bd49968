"""A rule: which records an operator, or the pipeline itself, means. Those of one key, or of one tenant."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Hashable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

Plain: TypeAlias = str | int | float | bool
"""What orders a record with one ordering key, and what may name a tenant: `Record.ordering` as it is.

A message key that is not UTF-8 is text with surrogates, as `pipeline.records.path` decodes it.
"""

RuleKind: TypeAlias = Literal["key", "tenant"]

BRIEF = 100
"""How many characters of a key or a tenant are shown where there are many."""


@attrs.frozen
class Rule:
    """The records of one key, or of one tenant.

    Two rules are the same if a partition takes their values for the same key: 1, 1.0 and true are.

    Attributes:
        kind: what the value is compared with.
        value: a key as `Record.ordering` has it, or a tenant as the path of ``[records] tenant`` gives
            it.
    """

    kind: RuleKind
    value: Plain

    def __str__(self) -> str:
        """For people: text in quotes if it could be taken for something else."""
        return f"{self.kind} {shown(self.value)}"

    def may_meet(self, other: Rule) -> bool:
        """Whether a record can be of both: of two keys, or of two tenants, it can't."""
        return self.kind != other.kind or self == other

    def to_json(self) -> dict[str, Any]:
        """Return the rule as an object for JSON: ``{"key": 12}``, ``{"key": {"base64": "/w=="}}``."""
        return {self.kind: plain_to_json(self.value)}

    @classmethod
    def from_json(cls, found: Any) -> Rule:
        """Read what `to_json` gave.

        Raises:
            ValueError: it is no rule; the message says what was found instead.
        """
        if not isinstance(found, Mapping) or len(found) != 1:
            raise ValueError("a rule is an object with one key or one tenant")
        ((kind, value),) = found.items()
        if kind == "key":
            return cls("key", plain_from_json(value))
        if kind == "tenant":
            return cls("tenant", plain_from_json(value))
        raise ValueError(f"a rule by {kind} is not known")


def shown(value: Plain) -> str:
    """Return a key or a tenant for people; what is not text, or looks as if it were not, is marked."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    plain = text.isprintable() and text == text.strip() and text not in ("", "true", "false")
    return text if plain and not _looks_like_a_number(text) else f'"{text}"'


def briefly(name: Hashable) -> str:
    """Return a key or a tenant as `shown` does, at most `BRIEF` characters of it."""
    found = shown(name if isinstance(name, str | int | float | bool) else str(name))
    return found if len(found) <= BRIEF else f"{found[: BRIEF - 1]}…"


def _looks_like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plain_to_json(value: Plain) -> Any:
    """Return a key or a tenant for JSON; bytes that are no text are ``{"base64": "..."}``."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"base64": b64encode(value.encode("utf-8", "surrogateescape")).decode()}
    return value


def plain_from_json(found: Any) -> Plain:
    """Read what `plain_to_json` gave.

    Raises:
        ValueError: it is no key: null, a list, or another object.
    """
    if isinstance(found, Mapping) and set(found) == {"base64"} and isinstance(found["base64"], str):
        return b64decode(found["base64"], validate=True).decode("utf-8", "surrogateescape")
    if isinstance(found, str | int | float):
        return found
    raise ValueError("a key or a tenant is text, a number, true, false, or {base64}")
