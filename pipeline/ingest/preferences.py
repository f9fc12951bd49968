"""What a request prefers (RFC 7240): how long it would wait for the effect of its records."""

from __future__ import annotations

import re

MOST_SECONDS = 20
"""No request waits longer for the effect; a longer wish is cut, and the answer says to what."""

_WAIT = re.compile(rb"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)


def wait_of(prefer: bytes | None) -> int:
    """Return how many seconds to wait by a Prefer header; 0 if it says nothing that is understood."""
    found = None if prefer is None else _WAIT.search(prefer)
    return 0 if found is None else min(int(found[1]), MOST_SECONDS)
