"""Answers: of a request's records, and of a receipt.

A record that Kafka has is answered by what became of it, as far as that is asked: 200 applied, 202 not
decided yet, 422 refused by the consumer. It counts as accepted in each case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import orjson

from pipeline.ingest.problems import MEDIA_TYPE, Headers, Problem
from pipeline.ingest.receipts import encode
from pipeline.ingest.sending import Placed
from pipeline.postgres.ledger.outcomes import Outcome, Place, State

APPLIED = 200
ACCEPTED = 202
MULTI_STATUS = 207
UNPROCESSABLE = 422

REFUSED_TYPE = "urn:pipeline:refused"
"""The type of the problem of a dead letter."""

JSON_TYPE = [(b"content-type", b"application/json")]
ONE_ACCEPTED: Mapping[int, int] = MappingProxyType({ACCEPTED: 1})

_SUMMARY = "no record was accepted; results says why, for each in its place"
_REFUSED = "the record was accepted, but can't be applied: it is a dead letter"

Outcomes = Mapping[Place, Outcome]


@attrs.frozen
class Answer:
    """An answer; ``records`` says how many records met which status."""

    status: int
    body: bytes
    headers: Headers
    records: Mapping[int, int]


def refusal(problem: Problem) -> Answer:
    """Answer with a problem that concerns the whole request."""
    return Answer(problem.status, problem.body(), problem.headers(), {})


def place_of(topic_id: UUID, placed: Placed) -> Place | None:
    """Where a record is; None if the broker did not say."""
    partition, offset = placed
    return None if offset < 0 else Place(topic_id, partition, offset)


def answer(
    results: Sequence[Placed | Problem],
    topic_id: UUID,
    *,
    single: bool,
    outcomes: Outcomes | None = None,
) -> Answer:
    """Answer with what became of each record.

    Args:
        results: where each is, or why it was not accepted.
        topic_id: of the topic that they are in.
        single: whether the body was one record.
        outcomes: what the ledger says of those that were accepted; None: it was not asked.
    """
    if not single:
        return _batch(results, topic_id, outcomes)
    (result,) = results
    if isinstance(result, Problem):
        return Answer(result.status, result.body(), result.headers(), {result.status: 1})
    place = None if outcomes is None else place_of(topic_id, result)
    if outcomes is None or place is None:
        receipt = _receipt(topic_id, result)
        return Answer(ACCEPTED, orjson.dumps({"receipt": receipt}), JSON_TYPE, ONE_ACCEPTED)
    return attrs.evolve(answer_of(place, outcomes[place]), records=ONE_ACCEPTED)


def answer_of(place: Place, outcome: Outcome) -> Answer:
    """Answer with what became of one record."""
    status, members = status_of(outcome.state), members_of(place, outcome)
    headers = JSON_TYPE
    if outcome.state is State.REFUSED:
        headers = [(b"content-type", MEDIA_TYPE)]
        members = {"type": REFUSED_TYPE, "title": "Refused", "status": status, **members}
    return Answer(status, orjson.dumps(members), headers, {})


def status_of(state: State) -> int:
    """The status of a record that Kafka has."""
    return {State.APPLIED: APPLIED, State.REFUSED: UNPROCESSABLE}.get(state, ACCEPTED)


def members_of(place: Place, outcome: Outcome) -> dict[str, Any]:
    """The members that tell a record's receipt, its state, and why."""
    found = {"receipt": receipt_of(place), "state": outcome.state.value}
    if outcome.state is State.REFUSED:
        found["detail"] = f"{_REFUSED}: {outcome.why}"
    elif outcome.why:
        found["why"] = outcome.why
    return found


def receipt_of(place: Place) -> str:
    """A place as a receipt."""
    return encode(place.topic_id, place.partition, place.offset)


def _receipt(topic_id: UUID, placed: Placed) -> str | None:
    """Where a record is, as a receipt; None if the broker did not say."""
    partition, offset = placed
    return None if offset < 0 else encode(topic_id, partition, offset)


def _batch(
    results: Sequence[Placed | Problem],
    topic_id: UUID,
    outcomes: Outcomes | None,
) -> Answer:
    counts = Counter(
        result.status if isinstance(result, Problem) else ACCEPTED for result in results
    )
    told = [_result(result, topic_id, outcomes) for result in results]
    refused = [result for result in results if isinstance(result, Problem)]
    status = _status({each["status"] for each in told}, accepted=bool(counts[ACCEPTED]))
    document: dict[str, object] = {"accepted": counts[ACCEPTED], "refused": len(refused)}
    waits = [problem.retry_after for problem in refused if problem.retry_after is not None]
    summary = Problem(status, _SUMMARY, retry_after=max(waits, default=None))
    headers = summary.headers()
    if status >= 400:
        document = {**summary.members(), **document}
    else:
        headers[0] = JSON_TYPE[0]
    document["results"] = told
    return Answer(status, orjson.dumps(document), headers, counts)


def _result(result: Placed | Problem, topic_id: UUID, outcomes: Outcomes | None) -> dict[str, Any]:
    if isinstance(result, Problem):
        return result.result()
    place = None if outcomes is None else place_of(topic_id, result)
    if outcomes is None or place is None:
        return {"status": ACCEPTED, "receipt": _receipt(topic_id, result)}
    outcome = outcomes[place]
    return {"status": status_of(outcome.state), **members_of(place, outcome)}


def _status(statuses: set[int], *, accepted: bool) -> int:
    """Of a batch.

    200: all are applied; 202: all are accepted, and none is known to be refused; 207: some are accepted;
    else the status of those that are worth another try, if any.
    """
    if not accepted:
        return max(statuses)
    if statuses <= {APPLIED, ACCEPTED}:
        return max(statuses)
    return MULTI_STATUS
