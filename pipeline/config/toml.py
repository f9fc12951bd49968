"""A file of TOML, read whole; what can't be read is told with its place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pipeline.config.mistakes import ConfigError, Mistake


def read_toml(path: Path) -> dict[str, Any]:
    """Read the document in a file.

    Raises:
        ConfigError: the file can't be read, or is not TOML.
    """
    try:
        return tomllib.loads(text := path.read_bytes().decode())
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        raise ConfigError(str(path), [Mistake("", message)]) from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8: the byte at position {error.start} can't be decoded"
        raise ConfigError(str(path), [Mistake("", message)]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [_syntax_mistake(str(error), text)]) from error


def _syntax_mistake(message: str, text: str) -> Mistake:
    """Take the place out of tomllib's message; the end of the document is a place too."""
    lines = text.split("\n")
    line, column = len(lines), len(lines[-1]) + 1
    if match := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        line, column = int(match[1]), int(match[2])
    what = re.sub(r" \(at [^()]*\)$", "", message)
    return Mistake(f"line {line}, column {column}", f"not valid TOML: {what}")
