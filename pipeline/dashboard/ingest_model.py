"""What an endpoint of `pipeline ingest` does, in the same form as what a consumer does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import trio

from pipeline.dashboard.identity import Identity
from pipeline.dashboard.model import HISTORY_LENGTH, SAMPLE_SECONDS, Sample
from pipeline.dashboard.sampled import SampledMean, SampledRate
from pipeline.observe.counts import counts_by
from pipeline.observe.metrics import Metrics

ACCEPTED = "202"


class IngestModel:
    """Collects an endpoint's history, and says how things are now. A `Model`.

    Args:
        identity: whose.
        metrics: what it accepted and refused.
        pending: how many records Kafka has not acknowledged yet.
        trouble: why it takes no records, a line each.
        clock: the wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        identity: Identity,
        metrics: Metrics,
        pending: Callable[[], int],
        trouble: Callable[[], Iterable[str]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self._metrics = metrics
        self._pending = pending
        self._trouble = trouble
        self._clock = clock
        self._history: deque[Sample] = deque(maxlen=HISTORY_LENGTH)
        self._accepted = SampledRate(lambda: self._records().get(ACCEPTED, 0))
        self._requests = SampledMean(metrics.ingest_request_seconds.labels())

    def _records(self) -> dict[str, int]:
        return counts_by(self._metrics.ingest_records, "status")

    async def run(self) -> None:
        """See `Model.run`."""
        while True:
            self.sample()
            await trio.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """Add this moment to the history. Not a checkpoint."""
        now = self._clock()
        self._requests.sample()
        self._history.append(Sample(now, self._accepted.at(now)))

    def state(self) -> dict[str, Any]:
        """See `Model.state`."""
        records = self._records()
        return {
            **attrs.asdict(self.identity),
            "at": self._clock(),
            "rate": self._history[-1].rate if self._history else None,
            "message_lag": None,
            "time_lag_seconds": None,
            "visible": 0,
            "accepted_to_visible_seconds": None,
            "trouble": list(self._trouble()),
            "topics": {},
            "partitions": [],
            "shards": [],
            "pauses": [],
            "holds": [],
            "tenants": [],
            "keys": [],
            "dead_letters": {},
            "ingest": {
                "pending": self._pending(),
                "latency_seconds": self._requests.mean,
                "accepted": records.pop(ACCEPTED, 0),
                "refused": records,
            },
        }

    def past(self) -> dict[str, Any]:
        """See `Model.past`."""
        return {"samples": [attrs.astuple(each) for each in self._history], "changes": []}
