"""What a value may take from outside: ``${NAME}``, ``${NAME:-DEFAULT}`` and ``${file:PATH}``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"\$\{((?:[^{}]|\$\{[^{}]*\})*)\}")
"""A reference; within a path or a default another one may stand."""

_FILE = "file:"


def expand(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace the references in a string, or in a list's strings.

    ``${NAME}`` is an environment variable; ``${NAME:-DEFAULT}`` is one, or the default if the variable
    is not set or empty; ``${file:PATH}`` is what a file holds, without the line break at its end. What
    comes from outside is taken as it is: a ``${`` in it is not looked at again.

    Raises:
        ValueError: variables are not set, or a file can't be read; the message names them.
    """
    if isinstance(value, list):
        return [expand(item, environ) for item in value]
    if not isinstance(value, str):
        return value
    missing: dict[str, None] = {}

    def replace(match: re.Match[str]) -> str:
        name, has_default, default = match[1].partition(":-")
        if match[1].startswith(_FILE):
            return _read(str(expand(match[1].removeprefix(_FILE), environ)))
        if has_default:
            return environ.get(name) or str(expand(default, environ))
        if name not in environ:
            missing[name] = None
        return environ.get(name, "")

    expanded = _REFERENCE.sub(replace, value)
    if missing:
        noun, verb = ("variables", "are") if len(missing) > 1 else ("variable", "is")
        raise ValueError(f"the environment {noun} {', '.join(missing)} {verb} not set")
    return expanded


def _read(path: str) -> str:
    try:
        return Path(os.path.expanduser(path)).read_bytes().decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8") from None


def from_file(value: Any) -> bool:
    """Return whether a value, as it is written, takes anything from a file: that may be a secret."""
    return isinstance(value, str) and f"${{{_FILE}" in value


def bare_variable(value: Any) -> str | None:
    """Return the name in ``"$NAME"``, which a shell would replace and this does not; None if none."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and (match := re.fullmatch(r"\$([A-Z_][A-Z0-9_]*)", text)):
            return match[1]
    return None


def as_plain(value: Any) -> int | float | bool | None:
    """Return the number or the truth value that a text is in TOML; None if it is neither."""
    if not isinstance(value, str) or not re.fullmatch(
        r"[+-]?\d+(\.\d+)?|true|false", value.strip()
    ):
        return None
    try:
        plain: int | float | bool = json.loads(value.strip().removeprefix("+"))
    except ValueError:  # leading zeros
        return None
    return plain
