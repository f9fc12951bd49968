"""Whether the endpoint is alive, and whether it takes records."""

from __future__ import annotations

from pipeline.ingest.sending import Writer


class IngestHealth:
    """The `Health` of the endpoint. Restarting it mends nothing that it knows of.

    Attributes:
        draining: whether it takes no more.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.draining = False

    def live(self) -> list[str]:
        """Return no reason to restart: what answers is alive."""
        return []

    def ready(self) -> list[str]:
        """Return why no records are taken: while Kafka is away, and in a drain."""
        if self.draining:
            return ["draining"]
        trouble = self._writer.trouble
        return [] if trouble is None else [f"Kafka: {trouble.detail}"]

    def notes(self) -> list[str]:
        """Return nothing: an endpoint that takes records has no more to say."""
        return []
