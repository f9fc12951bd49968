"""What a shard's address must look like, and what is probably meant where it doesn't."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.config.mistakes import describe, kind_of

EXPECTS = "a URL such as postgresql://USER@HOST:5432/DATABASE"

WRITABLE = ("any", "primary", "read-write")
"""What a DSN's ``target_session_attrs`` may be: the others ask for a server that takes no writes."""


def parse_dsn(value: Any) -> str:
    """Return a Postgres URL as it was given. No message shows it: there may be a password in it.

    Raises:
        ValueError: it is none, or asks for what the pipeline can't use; the message says what to write.
    """
    advice = f"expected {EXPECTS} (percent-encode a password's special characters)"
    if not isinstance(value, str):
        raise ValueError(f"{advice}, not {kind_of(value)}")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError(advice) from None
    if parts.scheme not in ("postgresql", "postgres") or "://" not in value:
        raise ValueError(advice)
    if "@" in parts.netloc.rpartition("@")[0]:
        raise ValueError(f"{advice}: there are two @, so one is the password's; write %40 for it")
    if "@" in parts.path + parts.fragment + parts.query.partition("=")[0]:
        raise ValueError(
            f"{advice}: what follows the host has an @, so the password probably ends too early; "
            "write %2F for /, %3F for ?, %23 for #, %40 for @, %25 for %"
        )
    hosts = parts.netloc.rpartition("@")[2].split(",")  # several: the first that can be written to
    if not all(map(_is_host, hosts)):
        raise ValueError(advice)
    query = dict(parse_qsl(parts.query))
    wanted = query.get("target_session_attrs", "any")
    if wanted not in WRITABLE:
        given = describe(wanted)
        known = ", ".join(WRITABLE)
        raise ValueError(
            f"target_session_attrs is {given}, but the pipeline writes: expected one of {known}"
        )
    if not re.fullmatch(r"\d*", query.get("connect_timeout", "")):
        raise ValueError("connect_timeout in the DSN: expected a whole number of seconds")
    return value


def _is_host(text: str) -> bool:
    match = re.fullmatch(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5})?)?", text)
    return match is not None and int(match[1] or 0) <= 65535
