"""A file of TOML, read whole; what can't be read is told with its place."""

from __future__ import annotations

import codecs
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from pipeline.config.mistakes import ConfigError, Mistake

STANDARD_INPUT = "standard input"
"""The name of a document that was not read from a file."""


def read_toml(path: str) -> tuple[str, dict[str, Any]]:
    """Read the document in a file, and return the file's name and the document.

    A path of ``-`` is standard input; ``~`` is the home directory. A byte order mark is skipped.

    Raises:
        ConfigError: the file can't be read, or is not TOML.
    """
    name = STANDARD_INPUT if path == "-" else os.path.expanduser(path)
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(name).read_bytes()
        return name, tomllib.loads(text := data.removeprefix(codecs.BOM_UTF8).decode())
    except OSError as error:
        message = f"can't be read: {error.strerror or error}"
        raise ConfigError(name, [Mistake("", message)]) from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8: the byte at position {error.start} can't be decoded"
        raise ConfigError(name, [Mistake("", message)]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(name, [_syntax_mistake(str(error), text)]) from error


def _syntax_mistake(message: str, text: str) -> Mistake:
    """Take the place out of tomllib's message; the end of the document is a place too."""
    lines = text.split("\n")
    line, column = len(lines), len(lines[-1]) + 1
    if match := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        line, column = int(match[1]), int(match[2])
    what = re.sub(r" \(at [^()]*\)$", "", message)
    hint = ""
    if re.fullmatch(r"\s*[\w.\"-]+\s*=\s*[A-Za-z_$/~][^\"']*", lines[line - 1]):
        hint = " (a text needs quotation marks)"
    return Mistake(f"line {line}, column {column}", f"not valid TOML: {what}{hint}")
