"""The key by which the consumer recognises a record that a client sent again."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from pipeline.ingest.problems import refuse
from pipeline.ingest.validation import Invalid, plain_value
from pipeline.records.path import Path

HEADER = "idempotency-key"
"""Of the HTTP request, and of the Kafka message."""

_KEY = re.compile(rb"[!-~]{1,255}")


def request_key(value: bytes | None) -> bytes | None:
    """Return the key of a request.

    Raises:
        RefusedError: it is none that can be compared: 422.
    """
    if value is not None and not _KEY.fullmatch(value):
        raise refuse(422, "expected an Idempotency-Key of 1 to 255 visible ASCII characters")
    return value


def record_key(
    given: bytes | None, index: int | None, text: bytes, document: Any, path: Path | None
) -> bytes | Invalid | None:
    """Return a record's key: its own, if it has one, or one made from the request's.

    In a batch the request's key is made each record's own by its place and by its text. So a client that
    sends the batch again under the same key is recognised; and one that sends only the rest of a batch
    again, under the same key, loses nothing, though the places are others now.

    Args:
        given: the request's key.
        index: the record's place in a batch; None: it is alone.
    """
    if path is not None:
        own = plain_value(document, path)
        if isinstance(own, bytes):
            return own
        if _is_there(document, path):
            return own
    if given is None or index is None:
        return given
    return b"%s/%d-%s" % (given, index, sha256(text).hexdigest()[:16].encode())


def _is_there(document: Any, path: Path) -> bool:
    for step in path.steps:
        document = document.get(step) if type(document) is dict else None
    return document is not None
