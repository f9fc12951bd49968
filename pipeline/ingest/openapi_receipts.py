"""The part of the OpenAPI document that tells what became of records."""

from __future__ import annotations

from copy import deepcopy

from pipeline.ingest.answers import REFUSED_TYPE
from pipeline.ingest.openapi_schemas import BATCH, REFUSALS, Document, problem
from pipeline.ingest.parsing import JSON
from pipeline.ingest.preferences import MOST_SECONDS

STATES = ("waiting", "applied", "refused", "set-aside", "unknown")

STATE: Document = {
    "type": "object",
    "required": ["receipt", "state"],
    "properties": {
        "receipt": {"type": "string", "pattern": "^1[A-Za-z0-9_-]{43}$"},
        "state": {
            "enum": list(STATES),
            "description": "applied: its effect is committed; waiting: not yet; set-aside: it waits"
            " in a lane; refused: it is a dead letter; unknown: the database can't be asked.",
        },
        "why": {"type": "string"},
    },
    "additionalProperties": False,
}

DEAD_LETTER: Document = {
    "type": "object",
    "description": "RFC 9457: a record that was accepted and can't be applied.",
    "required": ["type", "title", "status", "detail", "receipt", "state"],
    "properties": {
        "type": {"const": REFUSED_TYPE},
        "title": {"type": "string"},
        "status": {"const": 422},
        "detail": {"type": "string"},
        "receipt": {"type": "string"},
        "state": {"const": "refused"},
    },
    "additionalProperties": False,
}

TOLD: Document = {
    "type": "object",
    "description": "A record that was accepted, after a wait.",
    "required": ["status", "receipt", "state"],
    "properties": {
        **STATE["properties"],
        "status": {"enum": [200, 202, 422]},
        "detail": {"type": "string"},
    },
    "additionalProperties": False,
}

PREFER: Document = {
    "name": "Prefer",
    "in": "header",
    "description": f"wait=SECONDS (RFC 7240): wait until the effect is committed, {MOST_SECONDS} at most.",
    "schema": {"type": "string", "pattern": "^wait=[0-9]{1,9}$"},
}


def add_receipts(found: Document, *, with_tokens: bool) -> None:
    """Add what is different where it is told what became of records."""
    schemas, post = found["components"]["schemas"], found["paths"]["/v1/records"]["post"]
    schemas |= {"State": STATE, "DeadLetter": DEAD_LETTER, "Told": TOLD}
    batch = deepcopy(BATCH)
    batch["properties"]["results"]["items"] = {
        "anyOf": [*BATCH["properties"]["results"]["items"]["oneOf"], _reference("Told")]
    }
    schemas["Batch"] = batch
    post["parameters"] = [*post["parameters"], PREFER]
    either = {"anyOf": [_reference(name) for name in ("Accepted", "State", "Batch")]}
    said = {"preference-applied": {"schema": {"type": "string"}}}
    for status, meaning in (
        ("200", "The effect of every record is committed"),
        ("202", "Every record is in Kafka"),
    ):
        content = {JSON: {"schema": either}}
        post["responses"][status] = {"description": meaning, "content": content, "headers": said}
    either_problem = {"anyOf": [_reference("Problem"), _reference("DeadLetter")]}
    post["responses"]["422"]["content"] = {"application/problem+json": {"schema": either_problem}}
    found["paths"]["/v1/receipts/{receipt}"] = {"get": _receipt(with_tokens=with_tokens)}


def _reference(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _receipt(*, with_tokens: bool) -> Document:
    state = {JSON: {"schema": _reference("State")}}
    letter = {"application/problem+json": {"schema": _reference("DeadLetter")}}
    responses: Document = {
        "200": {"description": "Its effect is committed", "content": state},
        "202": {"description": "It is not decided yet", "content": state},
        "404": problem("404", "This is no receipt, or none of this endpoint's"),
        "422": {"description": "It is a dead letter", "content": letter},
        "500": problem("500", REFUSALS["500"]),
    }
    if with_tokens:
        responses["401"] = problem("401", REFUSALS["401"])
    responses["default"] = problem("", "No HTTP/1.1 as this server takes it")
    name = {"name": "receipt", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "operationId": "getReceipt",
        "summary": "What became of a record",
        "parameters": [name, PREFER],
        "responses": responses,
        "security": [{"token": []}] if with_tokens else [],
    }
