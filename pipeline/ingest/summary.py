"""A line per minute of what was accepted and what was refused, if there was anything."""

from __future__ import annotations

import logging

import attrs
import trio

from pipeline.observe.metrics import Metrics

log = logging.getLogger(__name__)

SECONDS = 60.0


@attrs.define
class Summary:
    """What was accepted and refused since the line before."""

    _metrics: Metrics
    _before: dict[str, int] = attrs.field(factory=dict)

    async def run(self) -> None:
        """Log a line per minute, until cancelled; one more at the end."""
        try:
            while True:
                await trio.sleep(SECONDS)
                self.log()
        finally:
            self.log()

    def log(self) -> None:
        """Log one line, unless nothing has happened."""
        now = self._counts()
        new = {
            status: count - self._before.get(status, 0)
            for status, count in sorted(now.items())
            if count > self._before.get(status, 0)
        }
        self._before = now
        if not new:
            return
        accepted = new.pop("202", 0)
        refused = ", ".join(f"{count:,} with {status}" for status, count in new.items())
        log.info(
            "%s records accepted%s", f"{accepted:,}", f"; refused: {refused}" if refused else ""
        )

    def _counts(self) -> dict[str, int]:
        samples = [
            sample
            for metric in self._metrics.ingest_records.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        ]
        return {sample.labels["status"]: int(sample.value) for sample in samples}
