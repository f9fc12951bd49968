"""The OpenAPI 3.1 document of the endpoint, at ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.ingest.parsing import JSON, MOST_RECORDS, NDJSON
from pipeline.ingest.validation import EXACT, LONGEST_KEY
from pipeline.records.path import Path

Document = dict[str, Any]

API_VERSION = "1"
"""The version of what is described, not of this program: the 1 of ``/v1/records``."""

PROBLEM: Document = {
    "type": "object",
    "description": "RFC 9457. No value of a record is in it.",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, for the client's developer."},
        "field": {"type": "string", "description": "The field that is wrong: a JSON pointer."},
        "accepted": {"const": 0, "description": "Of a batch of which no record was accepted."},
        "refused": {"type": "integer", "minimum": 1},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Refused"}},
    },
}

REFUSED: Document = {
    "type": "object",
    "required": ["status", "detail"],
    "properties": {
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "A JSON pointer."},
    },
    "additionalProperties": False,
}

RECEIPT: Document = {
    "type": ["string", "null"],
    "pattern": "^1[A-Za-z0-9_-]{43}$",
    "description": "Where the record is in Kafka, as opaque text; null if the broker did not say.",
}

BATCH: Document = {
    "type": "object",
    "required": ["accepted", "refused", "results"],
    "properties": {
        "accepted": {"type": "integer", "minimum": 1},
        "refused": {"type": "integer", "minimum": 0},
        "results": {
            "description": "One for each record, in the order of the body.",
            "type": "array",
            "minItems": 1,
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["status", "receipt"],
                        "properties": {"status": {"const": 202}, "receipt": RECEIPT},
                        "additionalProperties": False,
                    },
                    {"$ref": "#/components/schemas/Refused"},
                ]
            },
        },
    },
    "additionalProperties": False,
}

SINGLE: Document = {
    "type": "object",
    "required": ["receipt"],
    "properties": {"receipt": RECEIPT},
    "additionalProperties": False,
}

REFUSALS = {
    "401": "No token, or none that is known",
    "413": "The body, a record or the number of records is too large",
    "415": "A Content-Type, a charset or a Content-Encoding that is not taken",
    "422": "The body, or a record in it, is not what it must be",
    "429": "The tenant sends more than it may",
    "500": "A mistake of the endpoint's",
    "503": "Kafka is away, or too much waits for it: try again after Retry-After",
}
"""Status → what it means."""

IDEMPOTENCY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A name of the client's for this write: sent again under the same key, it is"
    " recognised by a consumer that is configured for it.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


def document(schema: Any, required: Sequence[Path] = (), *, with_tokens: bool) -> bytes:
    """Return the document as JSON.

    Args:
        schema: the JSON Schema of a record; None if there is none.
        required: the paths that each record must have a text or a whole number at.
        with_tokens: whether a token is needed.
    """
    record = {"allOf": [_embedded(schema), *(_required(path.steps) for path in required)]}
    found: Document = {
        "openapi": "3.1.0",
        "info": {
            "title": "pipeline ingest",
            "version": API_VERSION,
            "description": "Takes records, and answers when Kafka has acknowledged them.",
        },
        "paths": {
            "/v1/records": {"post": _post(with_tokens=with_tokens)},
            "/livez": {"get": _text("Whether the process is alive", "503")},
            "/readyz": {"get": _text("Whether records are accepted", "503")},
            "/openapi.json": {"get": _get("This document", JSON, {"type": "object"})},
            "/metrics": {"get": _metrics(with_tokens=with_tokens)},
        },
        "components": {
            "schemas": {
                "Record": record,
                "Problem": PROBLEM,
                "Refused": REFUSED,
                "Batch": BATCH,
                "Accepted": SINGLE,
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


def _embedded(schema: Any) -> Any:
    """Return a schema as part of this document: what it refers to in itself is elsewhere now."""
    if schema is None:
        return {"type": "object"}
    if isinstance(schema, dict) and "$id" in schema:
        return schema
    return _moved(schema)


def _moved(part: Any) -> Any:
    if isinstance(part, list):
        return [_moved(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: _moved(value) for key, value in part.items()}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        found["$ref"] = "#/components/schemas/Record/allOf/0" + reference[1:]
    return found


def _required(steps: Sequence[str]) -> Document:
    """The schema of an object with a text or a whole number at a path."""
    if not steps:
        return {
            "type": ["string", "integer"],
            "minLength": 1,
            "minimum": -EXACT,
            "maximum": EXACT,
            "description": f"At most {LONGEST_KEY} bytes of UTF-8.",
        }
    first, *rest = steps
    return {"type": "object", "required": [first], "properties": {first: _required(rest)}}


def _post(*, with_tokens: bool) -> Document:
    record = {"$ref": "#/components/schemas/Record"}
    batch = {"type": "array", "items": record, "minItems": 1, "maxItems": MOST_RECORDS}
    either = {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Accepted", "Batch")]}
    responses: Document = {
        "202": {"description": "Every record is in Kafka", "content": {JSON: {"schema": either}}},
        "207": {
            "description": "Some records of a batch are in Kafka; the results say which",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Batch"}}},
        },
    }
    for status, meaning in REFUSALS.items():
        if status != "401" or with_tokens:
            responses[status] = _problem(status, meaning)
    responses["default"] = _problem(
        "", "No HTTP/1.1 as this server takes it: malformed, or too slow"
    )
    lines = {"type": "string", "description": "A JSON object per line."}
    return {
        "operationId": "postRecords",
        "summary": "Write one record, or a batch of them",
        "description": "A body may be compressed: Content-Encoding gzip, deflate or zstd.",
        "parameters": [IDEMPOTENCY],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"oneOf": [record, batch]}},
                **{name: {"schema": lines} for name in NDJSON},
            },
        },
        "responses": responses,
        "security": [{"token": []}] if with_tokens else [],
    }


def _problem(status: str, meaning: str) -> Document:
    schema = {"$ref": "#/components/schemas/Problem"}
    found: Document = {
        "description": meaning,
        "content": {"application/problem+json": {"schema": schema}},
    }
    if status in ("429", "503"):
        seconds = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
        found["headers"] = {"Retry-After": seconds}
    return found


def _get(meaning: str, media_type: str, schema: Document) -> Document:
    content = {media_type: {"schema": schema}}
    return {
        "summary": meaning,
        "responses": {"200": {"description": meaning, "content": content}},
        "security": [],
    }


def _text(meaning: str, *statuses: str) -> Document:
    found = _get(meaning, "text/plain", {"type": "string"})
    for status in statuses:
        content = {"text/plain": {"schema": {"type": "string"}}}
        found["responses"][status] = {"description": "The reasons why not", "content": content}
    return found


def _metrics(*, with_tokens: bool) -> Document:
    found = _text("Metrics for Prometheus")
    if with_tokens:
        found["responses"]["401"] = _problem("401", REFUSALS["401"])
        found["security"] = [{"token": []}]
    return found
