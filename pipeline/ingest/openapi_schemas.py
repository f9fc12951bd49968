"""What several parts of the OpenAPI document refer to: problems, receipts, batches."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

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


def problem(status: str, meaning: str) -> Document:
    """Describe an answer that is a problem."""
    schema = {"$ref": "#/components/schemas/Problem"}
    found: Document = {
        "description": meaning,
        "content": {"application/problem+json": {"schema": schema}},
    }
    if status in ("429", "503"):
        seconds = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
        found["headers"] = {"Retry-After": seconds}
    return found
