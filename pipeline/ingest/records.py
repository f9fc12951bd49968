"""From a request's records to messages for Kafka, or to what is wrong with each."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pipeline.config.ingest import Placement
from pipeline.ingest.idempotency import HEADER, record_key
from pipeline.ingest.parsing import Parsed, document_of
from pipeline.ingest.problems import Problem
from pipeline.ingest.rates import TenantRates
from pipeline.ingest.validation import Check, Invalid, plain_value
from pipeline.kafka.batch_builder import Message

UNPROCESSABLE = 422
TOO_MANY = 429


@attrs.frozen
class Preparation:
    """What each record goes through before it is sent. No method is a checkpoint."""

    placement: Placement
    check: Check | None
    rates: TenantRates | None

    def all(
        self, parsed: Parsed, key: bytes | None, carried: Sequence[tuple[str, bytes]] = ()
    ) -> Sequence[Message | Problem]:
        """Return for each record, in order, its message or why it is refused.

        Args:
            parsed: the records.
            key: the request's idempotency key.
            carried: headers that each message gets.
        """
        limited: dict[bytes, float] = {}
        common = list(carried)
        if parsed.single:
            return [self._one(parsed.texts[0], None, key, common, limited)]
        return [
            self._one(text, index, key, common, limited) for index, text in enumerate(parsed.texts)
        ]

    def _one(
        self,
        text: bytes,
        index: int | None,
        key: bytes | None,
        common: list[tuple[str, bytes]],
        limited: dict[bytes, float],
    ) -> Message | Problem:
        document = document_of(text)
        if isinstance(document, Invalid):
            return _refused(document, index)
        message_key = None
        for path in self.placement.required:
            found = plain_value(document, path)
            if isinstance(found, Invalid):
                return _refused(found, index)
            if message_key is None:
                message_key = found  # the first path is the tenant's
        assert message_key is not None, "a tenant or a key is required"
        if self.check is not None and (invalid := self.check(document)) is not None:
            return _refused(invalid, index)
        own = record_key(key, index, text, document, self.placement.idempotency)
        if isinstance(own, Invalid):
            return _refused(own, index)
        if self.rates is not None and (wait := self._wait(message_key, limited)):
            why = "this tenant sends more than it may"
            return Problem(TOO_MANY, why, index=index, retry_after=wait)
        return message_key, text, common if own is None else [(HEADER, own), *common]

    def _wait(self, tenant: bytes, limited: dict[bytes, float]) -> float:
        """Count a record; once a tenant is over its rate, the rest of the request is too.

        Else a later record could get in front of the one that is refused.
        """
        assert self.rates is not None
        if tenant in limited:
            return limited[tenant]
        wait = self.rates.take(tenant)
        if wait:
            limited[tenant] = wait
        return wait


def _refused(invalid: Invalid, index: int | None) -> Problem:
    return Problem(UNPROCESSABLE, invalid.detail, invalid.field, index)
