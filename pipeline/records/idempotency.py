"""The key by which a record that was produced twice is recognised."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from pipeline.records.path import Path
from pipeline.records.rows import Digits, plain

KeyOf = Callable[[Any], str | None]
"""A record → its idempotency key, as 32 hexadecimal digits; None: it has none."""

_EXACT = 2**53


def key_digest(key: Path, tenant: Path | None) -> KeyOf:
    """Return a function from a record to the digest of its idempotency key.

    A key is its tenant's own, if there are tenants: nobody can use up another's. Whole numbers are what
    they are as text. A record whose key is missing, null, empty, a list or an object has none.
    """
    key_of = key.getter()
    tenant_of = None if tenant is None else tenant.getter()

    def digest(record: Any) -> str | None:
        found = _text(key_of(record))
        if not found:
            return None
        if tenant_of is not None:
            whose = _text(tenant_of(record)) or ""
            found = f"{len(whose)} {whose} {found}"
        return blake2b(found.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    return digest


def _text(value: Any) -> str | None:
    """A plain value as text; None for any other."""
    if type(value) is Digits:
        value = plain(value)
    if type(value) is str:
        return value
    if type(value) is float and abs(value) <= _EXACT and value.is_integer():
        value = int(value)
    return str(value) if type(value) in (int, float, bool) else None
