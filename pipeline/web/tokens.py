"""Bearer tokens (RFC 6750), compared in a time that tells nothing of them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256


class Tokens:
    """The tokens that are accepted; with none, everybody is.

    Their hashes are compared, and always all of them: the time depends neither on how much of a token
    was guessed nor on its length, nor on which one it is.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._hashes = [sha256(token.encode()).digest() for token in tokens]

    def admit(self, authorization: bytes | None) -> bool:
        """Return whether the value of a request's Authorization header is accepted."""
        if not self._hashes:
            return True
        scheme, _, given = (authorization or b"").partition(b" ")
        digest = sha256(given.strip()).digest()
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, digest)
        return found and scheme.lower() == b"bearer"
