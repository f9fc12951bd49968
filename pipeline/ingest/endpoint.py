"""``POST /v1/records``: one request, from its head to its answer.

What can be refused by the head alone is refused before the body is read. Everything that is held for a
request is bounded: the body and its inflated form by a budget that all requests share, records that
Kafka has not acknowledged by ``max_pending``. There is no queue before these: a request that finds them
full is refused at once. Records whose client has gone count until Kafka has answered for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

import attrs
import orjson

from pipeline.config.model import IngestConfig
from pipeline.ingest.bodies import BodyBudget, Holding, encoding_of, read_body
from pipeline.ingest.idempotency import request_key
from pipeline.ingest.parsing import media_type_of, parse
from pipeline.ingest.problems import Headers, Problem, RefusedError, refuse
from pipeline.ingest.rates import TenantRates
from pipeline.ingest.receipts import encode
from pipeline.ingest.records import Preparation
from pipeline.ingest.sending import RETRY_SECONDS, Placed, Writer, raise_trouble, send_all
from pipeline.ingest.tokens import Tokens
from pipeline.web.asgi import Receive

ACCEPTED = 202
MULTI_STATUS = 207

LEAST_BODY_BYTES = 64 * 1024**2
"""What the bodies of all requests together may take, or four of the largest ones."""

JSON_TYPE = [(b"content-type", b"application/json")]


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


class RecordsEndpoint:
    """Takes records.

    Args:
        config: [ingest].
        writer: where they go.
        preparation: what each goes through before.
    """

    def __init__(self, config: IngestConfig, writer: Writer, preparation: Preparation) -> None:
        self._writer = writer
        self._preparation = preparation
        self._tokens = Tokens(config.tokens)
        self._largest_body = config.max_body_bytes
        self._most_pending = config.max_pending
        self._budget = BodyBudget(max(LEAST_BODY_BYTES, 4 * config.max_body_bytes))

    def change(self, config: IngestConfig, rates: TenantRates | None) -> None:
        """Let other tokens, rates and another ``max_pending`` be in effect from the next request on.

        Not a checkpoint.
        """
        self._tokens = Tokens(config.tokens)
        self._most_pending = config.max_pending
        self._preparation = attrs.evolve(self._preparation, rates=rates)

    async def post(self, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        """Answer a request. A checkpoint; cancelled, what was handed to Kafka is written nevertheless.

        Args:
            headers: by their names in lower case.

        Raises:
            ClientGoneError: the client went before its body was complete.
        """
        try:
            self.authorize(headers)
            media_type = media_type_of(headers.get(b"content-type"))
            encoding = encoding_of(headers.get(b"content-encoding"))
            key = request_key(headers.get(b"idempotency-key"))
            raise_trouble(self._writer)
            self._make_room(1)
            with Holding(self._budget) as holding:
                length = _length(headers.get(b"content-length"))
                body = await read_body(receive, encoding, self._largest_body, length, holding)
                parsed = parse(body, media_type)
                raise_trouble(self._writer)
                self._make_room(len(parsed.texts))
                prepared = self._preparation.all(parsed, key)
                results = await send_all(self._writer, prepared, single=parsed.single)
        except RefusedError as error:
            return refusal(error.problem)
        return answer(results, self._writer.topic_id, single=parsed.single)

    def authorize(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request without one of the tokens, if there are any.

        Raises:
            RefusedError: 401.
        """
        if not self._tokens.admit(headers.get(b"authorization")):
            raise refuse(
                401, "expected the header Authorization: Bearer TOKEN, with a token that is known"
            )

    def _make_room(self, records: int) -> None:
        if records > self._most_pending:
            why = (
                f"the body holds more records than may wait for Kafka at all ({self._most_pending})"
            )
            raise refuse(413, why)
        writer = self._writer
        too_many = writer.pending_records + records > self._most_pending
        if too_many or writer.pending_bytes > self._budget.most:
            raise refuse(503, "too many records wait for Kafka: try again", RETRY_SECONDS)


def _length(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def answer(results: Sequence[Placed | Problem], topic_id: UUID, *, single: bool) -> Answer:
    """Answer with what became of each record."""
    counts = Counter(
        result.status if isinstance(result, Problem) else ACCEPTED for result in results
    )
    if single:
        (result,) = results
        if isinstance(result, Problem):
            return Answer(result.status, result.body(), result.headers(), counts)
        body = orjson.dumps({"receipt": _receipt(topic_id, result)})
        return Answer(ACCEPTED, body, JSON_TYPE, counts)
    refused = [result for result in results if isinstance(result, Problem)]
    status = _status(counts, len(results))
    document: dict[str, object] = {"accepted": counts[ACCEPTED], "refused": len(refused)}
    waits = [problem.retry_after for problem in refused if problem.retry_after is not None]
    summary = Problem(status, _SUMMARY, retry_after=max(waits, default=None))
    headers = summary.headers()
    if status >= 400:
        document = {**summary.members(), **document}
    else:
        headers[0] = JSON_TYPE[0]
    document["results"] = [
        result.result()
        if isinstance(result, Problem)
        else {"status": ACCEPTED, "receipt": _receipt(topic_id, result)}
        for result in results
    ]
    return Answer(status, orjson.dumps(document), headers, counts)


_SUMMARY = "no record was accepted; results says why, for each in its place"


def _status(counts: Counter[int], total: int) -> int:
    """202: all are accepted; 207: some; else the status of those that are worth another try, if any."""
    accepted = counts[ACCEPTED]
    if accepted:
        return ACCEPTED if accepted == total else MULTI_STATUS
    return max(counts)


def _receipt(topic_id: UUID, placed: Placed) -> str | None:
    """A record's receipt; None if the broker did not say where the record is."""
    partition, offset = placed
    return None if offset < 0 else encode(topic_id, partition, offset)
