"""The OpenAPI 3.1 document of the endpoint, at ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.ingest.openapi_receipts import add_receipts
from pipeline.ingest.openapi_schemas import (
    BATCH,
    PROBLEM,
    REFUSALS,
    REFUSED,
    SINGLE,
    Document,
    problem,
)
from pipeline.ingest.parsing import JSON, MOST_RECORDS, NDJSON
from pipeline.ingest.validation import EXACT, LONGEST_KEY
from pipeline.records.path import Path

API_VERSION = "1"
"""The version of what is described, not of this program: the 1 of ``/v1/records``."""

IDEMPOTENCY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A name of the client's for this write: sent again under the same key, it is"
    " recognised by a consumer that is configured for it.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


def document(
    schema: Any,
    required: Sequence[Path] = (),
    *,
    with_tokens: bool,
    with_receipts: bool = False,
) -> bytes:
    """Return the document as JSON.

    Args:
        schema: the JSON Schema of a record; None if there is none.
        required: the paths that each record must have a text or a whole number at.
        with_tokens: whether a token is needed.
        with_receipts: whether it is told what became of records.
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
    if with_receipts:
        add_receipts(found, with_tokens=with_tokens)
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
            responses[status] = problem(status, meaning)
    responses["default"] = problem(
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
        found["responses"]["401"] = problem("401", REFUSALS["401"])
        found["security"] = [{"token": []}]
    return found
