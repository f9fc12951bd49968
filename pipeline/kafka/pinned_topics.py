"""Fetches that name a topic by its id, so that another topic of the same name is never taken for it.

kafka-python 3.0.12 fetches by name (version 12 of the request). A topic that is deleted and made anew
under a running consumer then goes on as if nothing had happened: the offset that comes next may exist in
the new topic too, and its records would pass for the former topic's. From version 13 on (Kafka 3.1) a
fetch says which topic is meant, and a broker answers UNKNOWN_TOPIC_ID where that one is gone.

So each partition is pinned to the id that its task has claimed, and each request is completed on its
way: ids into the request, names into the answer. A broker before 3.1 gets names as before; what is read
there between the change and the next look at the ids (`TopicWatch`) can't be told apart.

All of it runs on kafka-python's I/O thread, but for the answers, which its poll reads afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import FetchRequest
from kafka.structs import TopicPartition as KafkaPartition

BY_ID = 13
"""The first version of the fetch request that names topics by id."""


class PinnedTopics:
    """The topics that one fetcher's partitions are pinned to.

    Args:
        fetcher: kafka-python's; its requests and answers pass here from now on.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._ids: dict[KafkaPartition, UUID] = {}
        self._names: dict[UUID, str] = {}
        self._create = fetcher._create_fetch_requests
        self._handle = fetcher._handle_fetch_response
        fetcher._create_fetch_requests = self._requests  # type: ignore[method-assign]
        fetcher._handle_fetch_response = self._answered  # type: ignore[method-assign]

    def pin(self, partition: KafkaPartition, topic_id: UUID) -> None:
        """Fetch the partition of this topic only, from the next request on. On the I/O thread.

        A pin outlives the assignment: the broker is told by it which partition is to be forgotten.
        """
        before = self._ids.get(partition)
        self._ids[partition] = topic_id
        self._names[topic_id] = partition.topic
        if before not in (None, topic_id):
            # A broker's session would keep the former topic's partition, and answer with an error for
            # it at once, each time. A new session knows nothing of it.
            for session in self._fetcher._session_handlers.values():
                session.next_metadata = session.next_metadata.next_close_existing()

    def _requests(self) -> Mapping[Any, tuple[FetchRequest, Any]]:
        requests = self._create()
        for request, _ in requests.values():
            self._name_by_id(request)
        return requests

    def _name_by_id(self, request: FetchRequest) -> None:
        topics = [*request.topics, *request.forgotten_topics_data]
        pinned = all(
            KafkaPartition(topic.topic, _number(part)) in self._ids
            for topic in topics
            for part in topic.partitions
        )
        if not pinned:
            return
        request.topics = list(self._apart(request.topics))
        request.forgotten_topics_data = list(self._apart(request.forgotten_topics_data))
        request._max_version = BY_ID

    def _apart(self, topics: Iterable[Any]) -> Iterable[Any]:
        """Give each topic its id; one whose partitions are pinned to two becomes two."""
        for topic in topics:
            by_id = defaultdict(list)
            for part in topic.partitions:
                by_id[self._ids[KafkaPartition(topic.topic, _number(part))]].append(part)
            for topic_id, parts in by_id.items():
                yield type(topic)(topic=topic.topic, topic_id=topic_id, partitions=parts)

    def _answered(self, node_id: Any, fetch_offsets: Any, send_time: float, response: Any) -> None:
        if response.API_VERSION >= BY_ID:
            for topic in response.responses:
                topic.topic = self._names.get(topic.topic_id, "")
        self._handle(node_id, fetch_offsets, send_time, response)


def _number(part: Any) -> int:
    """The number of a partition in a fetch, or in what is to be forgotten, where it stands alone."""
    number: int = getattr(part, "partition", part)
    return number
