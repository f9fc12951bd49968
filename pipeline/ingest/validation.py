"""Whether a record is what it must be: an object with its key and tenant, and what the schema says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path as FilePath
from typing import Any, NoReturn

import attrs
import jsonschema_rs
import orjson

from pipeline.records.path import Path

LONGEST_KEY = 1024
"""Bytes of a message key."""

EXACT = 2**53
"""Up to here a number with a fraction is exact; so beyond, none is taken for a whole one."""


@attrs.frozen
class Invalid:
    """What is wrong with a record; see `Problem.detail` and `Problem.field`."""

    detail: str
    field: str | None = None


Check = Callable[[Any], Invalid | None]


class SchemaError(Exception):
    """The schema's file can't be used; the message says why."""


def pointer(steps: Iterable[str | int]) -> str:
    """Return a place in a document as a JSON pointer (RFC 6901); long names are cut."""
    parts = (str(step)[:64].replace("~", "~0").replace("/", "~1") for step in islice(steps, 32))
    return "".join(f"/{part}" for part in parts)


def plain_value(document: Any, path: Path) -> bytes | Invalid:
    """Return the text or the whole number at a path, as the bytes of a message key."""
    value = document
    for step in path.steps:
        value = value.get(step) if type(value) is dict else None
    if type(value) is str:
        try:
            found = value.encode()
        except UnicodeEncodeError:
            return Invalid("no valid Unicode", pointer(path.steps))
    elif type(value) is int or (type(value) is float and _is_whole(value)):
        found = str(int(value)).encode()
    else:
        return Invalid("expected a text or a whole number", pointer(path.steps))
    if not 0 < len(found) <= LONGEST_KEY:
        return Invalid(f"expected 1 to {LONGEST_KEY} bytes", pointer(path.steps))
    return found


def _is_whole(value: float) -> bool:
    """Whether it was written as 1.0 and is 1, to JSON Schema and to the consumer too."""
    return abs(value) <= EXACT and value.is_integer()


def schema_check(file: FilePath) -> tuple[Any, Check]:
    """Read a JSON Schema; return it, and the check by it.

    Without ``$schema`` it is of draft 2020-12. ``format`` is checked. No ``$ref`` is fetched from
    elsewhere.

    Raises:
        SchemaError: it can't be read, or is no schema.
    """
    try:
        schema = orjson.loads(file.read_bytes())
        validator = jsonschema_rs.validator_for(
            schema, validate_formats=True, retriever=_fetch_none
        )
    except OSError as error:
        raise SchemaError(f"the file {file} can't be read: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise SchemaError(f"the file {file} is not JSON: {error}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        first = str(error).splitlines()[0]
        raise SchemaError(
            f"the file {file} holds no JSON Schema that can be used: {first}"
        ) from error

    def check(document: Any) -> Invalid | None:
        if validator.is_valid(document):
            return None
        return _told(schema, next(validator.iter_errors(document)))

    return schema, check


def _fetch_none(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched: put it into the file, under $defs")


def _told(schema: Any, error: jsonschema_rs.ValidationError) -> Invalid:
    """Say what is expected, in the schema's words; the record's own value is not shown."""
    place = list(error.instance_path)
    keyword = next((step for step in reversed(error.schema_path) if isinstance(step, str)), "")
    kind: Any = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return Invalid("missing", pointer([*place, kind.property]))
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return Invalid("this field is not known", pointer([*place, kind.unexpected[0]]))
    expected = schema
    for step in error.schema_path:
        try:
            expected = expected[step]
        except (KeyError, IndexError, TypeError):  # it leads through a $ref
            return Invalid(f'the schema\'s "{keyword}" is not met', pointer(place))
    shown = orjson.dumps(expected).decode()
    rule = f'"{keyword}": {shown}' if len(shown) <= 100 else f'"{keyword}"'
    return Invalid(f"the schema's {rule} is not met", pointer(place))
