"""Arrays and ranges of a document, as Postgres writes them.

A list of JSON becomes an array whose elements follow the rules of their type. Text is taken to be an array
as Postgres writes it; where the rules of an element say more than Postgres does (a time, bytes), its
elements are looked at too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.postgres.sink.values import Unfit, as_json, as_text

Textual = Callable[[Any], str]
"""An element, not None → its text. Raises ValueError or TypeError."""

_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^\s{},"\\]|\\.)(?:[^{},"\\]|\\.)*)', re.DOTALL)
_BOUND = re.compile(r"""[^][(){},"\s][^][(){},"]*""")


def array_of(element: Textual, delimiter: str = ",") -> Textual:
    """Make a function from a list of such elements, or text of an array, to text of an array."""
    nested = element is not as_json  # otherwise a list in the list is an element
    as_it_is = element in (as_text, as_json)

    def in_array(each: Any) -> str:
        if each is None:
            return "NULL"
        if nested and type(each) is list:
            return array(each)
        return _quoted(element(each))

    def array(value: Any) -> str:
        if type(value) is list:
            return "{" + delimiter.join(map(in_array, value)) + "}"
        return as_text(value) if as_it_is else _looked_at(as_text(value), element)

    return array


def _looked_at(text: str, element: Textual) -> str:
    """Text of an array with each of its elements as ``element`` gives it."""

    def again(found: re.Match[str]) -> str:
        quoted, bare = found.groups()
        if quoted is None and bare.strip().upper() == "NULL":
            return found[0]
        inner = bare.strip() if quoted is None else quoted
        return _quoted(element(re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)))

    start = max(text.find("{"), 0)  # before it may be bounds of subscripts
    return text[:start] + _ELEMENT.sub(again, text[start:])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def checked(check: Callable[[Any], Any]) -> Textual:
    """The text of an element of a list that ``check`` does not refuse; text of an array is Postgres's."""

    def text(value: Any) -> str:
        check(value)
        return as_text(value)

    return text


def range_of(bound: Textual) -> Textual:
    """Make a function from the text of a range, or of several, to the same, with its bounds looked at.

    A list of JSON is none: ``[1,5]`` would be read as a range that includes 5.
    """

    def text(value: Any) -> str:
        if type(value) is not str:
            raise Unfit('expected a range as text, such as "[1,5)", not {}', value)
        for found in _BOUND.findall(value):
            if found.strip().lower() not in ("empty", "infinity", "-infinity"):
                bound(found.strip())
        return value

    return text
