"""Fetch requests that name topics by id, and answers that get their names back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from kafka.protocol.consumer import FetchRequest
from kafka.structs import TopicPartition

from pipeline.kafka.pinned_topics import BY_ID, PinnedTopics

FORMER, LATTER = UUID(int=1), UUID(int=2)
FIRST, SECOND = TopicPartition("events", 0), TopicPartition("events", 1)


class Fetcher:
    """A fetcher that has one request to send, and keeps the answers that it is given."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.closed = 0
        session = SimpleNamespace(next_metadata=self)
        self._session_handlers = {1: session}

    def next_close_existing(self) -> Fetcher:
        self.closed += 1
        return self

    def _create_fetch_requests(self) -> dict[int, Any]:
        kinds: Any = FetchRequest
        parts = [kinds.FetchTopic.FetchPartition(partition=n, fetch_offset=5) for n in (0, 1)]
        request = FetchRequest(
            topics=[kinds.FetchTopic(topic="events", partitions=parts)],
            forgotten_topics_data=[kinds.ForgottenTopic(topic="events", partitions=[1])],
            max_version=12,
        )
        return {1: (request, {})}

    def _handle_fetch_response(self, *answered: Any) -> None:
        self.answers.append([topic.topic for topic in answered[-1].responses])


@pytest.fixture
def fetcher() -> Any:
    return Fetcher()


def sent(fetcher: Any) -> Any:
    return fetcher._create_fetch_requests()[1][0]


def test_a_topic_that_is_pinned_to_two_ids_is_two(fetcher: Any) -> None:
    """One of its tasks has not noticed yet that the topic was made anew."""
    pinned = PinnedTopics(fetcher)
    pinned.pin(FIRST, FORMER)
    pinned.pin(SECOND, LATTER)
    request = sent(fetcher)
    assert request._max_version == BY_ID
    named = [(t.topic, t.topic_id, [p.partition for p in t.partitions]) for t in request.topics]
    assert named == [("events", FORMER, [0]), ("events", LATTER, [1])]
    (forgotten,) = request.forgotten_topics_data
    assert (forgotten.topic_id, forgotten.partitions) == (LATTER, [1])


def test_what_is_not_pinned_is_fetched_by_name(fetcher: Any) -> None:
    PinnedTopics(fetcher).pin(FIRST, FORMER)
    request = sent(fetcher)
    assert request._max_version == 12
    assert request.topics[0].topic_id is None


def test_sessions_begin_anew_only_where_a_partition_is_another_topics(fetcher: Any) -> None:
    """A broker would answer for the former topic's partition with an error, at once, each time."""
    pinned = PinnedTopics(fetcher)
    pinned.pin(FIRST, FORMER)
    pinned.pin(FIRST, FORMER)
    pinned.pin(SECOND, FORMER)
    assert fetcher.closed == 0
    pinned.pin(FIRST, LATTER)
    assert fetcher.closed == 1


def test_answers_get_the_names_of_their_topics(fetcher: Any) -> None:
    pinned = PinnedTopics(fetcher)
    pinned.pin(FIRST, FORMER)
    by_id = [SimpleNamespace(topic=None, topic_id=FORMER)]
    by_name = [SimpleNamespace(topic="events", topic_id=None)]
    for version, topics in ((BY_ID, by_id), (12, by_name)):
        answer = SimpleNamespace(API_VERSION=version, responses=topics)
        fetcher._handle_fetch_response(1, {}, 0.0, answer)
    assert fetcher.answers == [["events"], ["events"]]
