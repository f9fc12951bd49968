"""For how long Kafka keeps a topic's records: what waits in a lane must be read before."""

from __future__ import annotations

import logging
from contextlib import closing
from functools import partial

import trio
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.config.model import KafkaConfig
from pipeline.kafka.control_topic import topic_settings
from pipeline.kafka.options import reaching_options

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60.0


class Retention:
    """The ``retention.ms`` of topics, looked up once a minute while somebody asks for it.

    Args:
        kafka: how to reach it.
        client_id: how this is named there.
    """

    def __init__(self, kafka: KafkaConfig, client_id: str) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._known: dict[str, float | None] = {}
        self._asked = trio.Event()

    def seconds(self, topic: str) -> float | None:
        """Return for how long a topic's records are kept; None: for ever, or it is not known (yet).

        Not a checkpoint.
        """
        self._asked.set()
        return self._known.get(topic)

    async def run(self) -> None:
        """Look until cancelled. A look that is cancelled is left behind."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            for topic in self._kafka.topics:
                look = partial(self._look, topic)
                self._known[topic] = await trio.to_thread.run_sync(look, abandon_on_cancel=True)
            await trio.sleep(AGAIN_SECONDS)

    def _look(self, topic: str) -> float | None:
        """Blocks; on a worker thread. Raises nothing: without the right to look, it is not known."""
        try:
            options = reaching_options(
                self._kafka, self._client_id, KafkaAdminClient.DEFAULT_CONFIG
            )
            with closing(KafkaAdminClient(**options)) as admin:
                kept = int(topic_settings(admin, topic).get("retention.ms", "-1"))
        except (KafkaError, OSError, ValueError) as error:
            log.debug("the retention of %s is not known: %s", topic, type(error).__name__)
            return None
        return kept / 1000 if kept >= 0 else None
