"""From a body to records: each the text that goes to Kafka as it is, and the document that it says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import attrs
import msgspec
import orjson

from pipeline.ingest.problems import refuse
from pipeline.ingest.validation import Invalid

MOST_RECORDS = 10_000
"""Records in one request."""

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")

_ARRAY = msgspec.json.Decoder(Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MOST_RECORDS)])


@attrs.frozen
class Parsed:
    """The records of a body.

    Attributes:
        texts: the JSON of each.
        single: whether the body is one object, and no batch.
    """

    texts: Sequence[bytes]
    single: bool


@lru_cache(maxsize=64)
def media_type_of(value: bytes | None) -> str:
    """Return the media type of a Content-Type.

    Raises:
        RefusedError: it is none that is taken: 415.
    """
    name, _, parameters = (value or b"").decode("latin-1").lower().partition(";")
    name = name.strip()
    if name != JSON and name not in NDJSON:
        raise refuse(415, f"expected a Content-Type of {JSON} or {NDJSON[0]}")
    charset = parameters.replace(" ", "").replace('"', "").partition("charset=")[2]
    if charset.partition(";")[0] not in ("", "utf-8", "utf8"):
        raise refuse(415, "expected UTF-8, the only charset of JSON")
    return name


def parse(body: bytes, media_type: str) -> Parsed:
    """Divide a body into its records. Each may still be no JSON, if the body is NDJSON.

    Raises:
        RefusedError: it is no JSON or holds no record (422), or holds too many (413).
    """
    if media_type != JSON:
        lines = [line for line in body.split(b"\n", MOST_RECORDS + 1) if line.strip()]
        return _batch(lines)
    body = body.strip(b" \t\r\n")
    if not body.startswith(b"["):
        return Parsed((body,), single=True)
    try:
        return _batch([bytes(raw) for raw in _ARRAY.decode(body)])
    except msgspec.ValidationError:
        raise _too_many() from None
    except (ValueError, RecursionError):
        raise refuse(422, "the body is no valid JSON") from None


def _batch(texts: Sequence[bytes]) -> Parsed:
    if not texts:
        raise refuse(422, "the body holds no record")
    if len(texts) > MOST_RECORDS:
        raise _too_many()
    return Parsed(texts, single=False)


def _too_many() -> Exception:
    return refuse(413, f"the body holds more than {MOST_RECORDS} records")


def document_of(text: bytes) -> dict[str, Any] | Invalid:
    """Return the object that a record is, or what is wrong with it."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Invalid(f"not valid JSON: {error.msg} at character {error.pos}")
    if type(document) is not dict:
        return Invalid("expected a JSON object")
    return document
