"""The trace that a request belongs to (W3C Trace Context), as headers of its records.

So a trace goes from the HTTP request to the row: the consumer's span of a batch links to what its records'
headers name. It is passed on as it came: the endpoint makes no span of its own in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PARENT, STATE = b"traceparent", b"tracestate"
"""Of the HTTP request, and of the Kafka message."""

LONGEST_PARENT = 128
LONGEST_STATE = 512
"""Bytes of tracestate that are passed on: what the standard asks for at least (3.3.1.5)."""

_PARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)
"""Version, trace, span, flags; versions to come may have more after these (3.2.4)."""

_STATE = re.compile(rb"[\t -~]*")


def trace_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, bytes]]:
    """Return what each record of a request carries of its trace; nothing if none is named.

    A traceparent that is malformed, or there twice, names no trace; without it tracestate means nothing.
    A tracestate in several headers is one list; a longer one than `LONGEST_STATE` is left out.
    """
    parents, states = [], []
    for name, value in headers:
        if name == PARENT:
            parents.append(value)
        elif name == STATE:
            states.append(value)
    if len(parents) != 1 or not _is_parent(parents[0]):
        return []
    state = b",".join(states)
    if not state or len(state) > LONGEST_STATE or not _STATE.fullmatch(state):
        return [(PARENT.decode(), parents[0])]
    return [(PARENT.decode(), parents[0]), (STATE.decode(), state)]


def _is_parent(value: bytes) -> bool:
    found = _PARENT.fullmatch(value) if len(value) <= LONGEST_PARENT else None
    return found is not None and not (found[1] == b"00" and found[2])
