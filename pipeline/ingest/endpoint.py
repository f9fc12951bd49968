"""``POST /v1/records`` and ``GET /v1/receipts/…``: one request, from its head to its answer.

What can be refused by the head alone is refused before the body is read. Everything that is held for a
request is bounded: the body and its inflated form by a budget that all requests share, records that
Kafka has not acknowledged by ``max_pending``. There is no queue before these: a request that finds them
full is refused at once. Records whose client has gone count until Kafka has answered for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import attrs

from pipeline.config.model import IngestConfig
from pipeline.ingest.answers import Answer, answer, answer_of, place_of, refusal
from pipeline.ingest.bodies import BodyBudget, Holding, encoding_of, read_body
from pipeline.ingest.idempotency import request_key
from pipeline.ingest.outcomes import Outcomes
from pipeline.ingest.parsing import media_type_of, parse
from pipeline.ingest.preferences import wait_of
from pipeline.ingest.problems import Problem, RefusedError, refuse
from pipeline.ingest.receipts import decode
from pipeline.ingest.records import Preparation
from pipeline.ingest.sending import RETRY_SECONDS, Placed, Writer, raise_trouble, send_all
from pipeline.postgres.ledger.outcomes import Outcome, Place
from pipeline.web.asgi import Receive
from pipeline.web.tokens import Tokens

LEAST_BODY_BYTES = 64 * 1024**2
"""What the bodies of all requests together may take, or four of the largest ones."""


class RecordsEndpoint:
    """Takes records.

    Args:
        config: [ingest].
        writer: where they go.
        preparation: what each goes through before.
        outcomes: knows what became of records; None: nobody is told.
    """

    def __init__(
        self,
        config: IngestConfig,
        writer: Writer,
        preparation: Preparation,
        outcomes: Outcomes | None = None,
    ) -> None:
        self._writer = writer
        self._outcomes = outcomes
        self._preparation = preparation
        self._tokens = Tokens(config.tokens)
        self._largest_body = config.max_body_bytes
        self._most_pending = config.max_pending
        self._budget = BodyBudget(max(LEAST_BODY_BYTES, 4 * config.max_body_bytes))

    def change(self, config: IngestConfig) -> None:
        """Let other tokens and another ``max_pending`` be in effect from the next request on.

        Not a checkpoint.
        """
        self._tokens = Tokens(config.tokens)
        self._most_pending = config.max_pending

    async def post(
        self,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        trace: Sequence[tuple[str, bytes]] = (),
    ) -> Answer:
        """Answer a request. A checkpoint; cancelled, what was handed to Kafka is written nevertheless.

        Args:
            headers: by their names in lower case.
            trace: headers that each record carries on.

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
                prepared = self._preparation.all(parsed, key, trace)
                results = await send_all(self._writer, prepared, single=parsed.single)
        except RefusedError as error:
            return refusal(error.problem)
        seconds = wait_of(headers.get(b"prefer"))
        if self._outcomes is None or not seconds:
            return answer(results, self._writer.topic_id, single=parsed.single)
        found = await self._wait(self._outcomes, results, seconds, receive)
        told = answer(results, self._writer.topic_id, single=parsed.single, outcomes=found)
        return _preferred(told, seconds)

    async def _wait(
        self,
        outcomes: Outcomes,
        results: Sequence[Placed | Problem],
        seconds: float,
        receive: Receive,
    ) -> Mapping[Place, Outcome]:
        topic_id = self._writer.topic_id
        placed = [each for each in results if not isinstance(each, Problem)]
        places = [place for each in placed if (place := place_of(topic_id, each)) is not None]
        return await outcomes.wait(places, seconds, partial(_gone, receive))

    async def receipt(self, headers: Mapping[bytes, bytes], text: str, receive: Receive) -> Answer:
        """Answer with what became of the record that a receipt is of. A checkpoint.

        Args:
            headers: by their names in lower case.
            text: the receipt.
        """
        try:
            self.authorize(headers)
            place = self._place(text)
        except RefusedError as error:
            return refusal(error.problem)
        assert self._outcomes is not None, "a place was found"
        seconds = wait_of(headers.get(b"prefer"))
        found = await self._outcomes.wait([place], seconds, partial(_gone, receive))
        told = answer_of(place, found[place])
        return _preferred(told, seconds) if seconds else told

    def _place(self, text: str) -> Place:
        """Read a receipt.

        Raises:
            RefusedError: 404: it is none of this endpoint's, or nothing is told here.
        """
        if self._outcomes is None:
            raise refuse(404, "this endpoint does not tell what became of records")
        try:
            receipt = decode(text)
        except ValueError as error:
            raise refuse(404, str(error)) from None
        if receipt.topic_id != self._writer.topic_id:
            raise refuse(404, "the receipt is not of the topic that this endpoint writes")
        return Place(receipt.topic_id, receipt.partition, receipt.offset)

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


async def _gone(receive: Receive) -> None:
    """Wait until the client has gone. A checkpoint."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _preferred(told: Answer, seconds: int) -> Answer:
    """Say that the wish to wait was heard, and for how long."""
    applied = (b"preference-applied", b"wait=%d" % seconds)
    return attrs.evolve(told, headers=[*told.headers, applied])


def _length(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
