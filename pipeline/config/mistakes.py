"""What is wrong with a configuration, and the words it is told in."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from attrs import frozen


@frozen
class Mistake:
    """One thing that is wrong.

    Attributes:
        key: the dotted key that it is at; empty if it concerns the whole file.
        message: what is wrong, and what to write instead.
    """

    key: str
    message: str


class ConfigError(Exception):
    """A configuration that can't be used.

    Args:
        source: the name of the file.
        mistakes: all that is wrong with it.
    """

    def __init__(self, source: str, mistakes: Iterable[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(source, self.mistakes)

    def __str__(self) -> str:
        """``FILE: KEY: MESSAGE``, one line per mistake."""
        parts = [(self.source, m.key, m.message) for m in self.mistakes]
        return "\n".join(
            ": ".join(" ".join(part.splitlines()) for part in line if part) for line in parts
        )


def join(table: str, key: str) -> str:
    """Return the dotted key, quoted if TOML wants it quoted."""
    part = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
    return f"{table}.{part}" if table else part


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` was probably meant to be; None if none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a suggestion in brackets with a space before it, or an empty text."""
    suggestion = nearest(word, known)
    return f' (did you mean "{suggestion}"?)' if suggestion else ""


def kind_of(value: object) -> str:
    """Return what sort of TOML value this is, without showing it."""
    names: dict[type[Any], str] = {
        bool: "a boolean",
        str: "a string",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def describe(value: object) -> str:
    """Return a value as a message shows it; long ones are cut."""
    if not isinstance(value, str | int | float):
        return kind_of(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:78]}…{text[-1]}"
