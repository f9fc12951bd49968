"""Parked records of resumed partitions, in kafka-python's own fetcher."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.kafka.fetcher import resume_parked_fetches

IN_LINE, PARKED = TopicPartition("t", 0), TopicPartition("t", 1)


class Fetched:
    """Three records of one partition, as `Fetcher.PartitionRecords`."""

    leader_epoch = -1

    def __init__(self, source: TopicPartition) -> None:
        self.topic_partition = source
        self.next_fetch_offset = 0

    def __bool__(self) -> bool:
        return self.next_fetch_offset < 3

    def take(self, limit: int) -> list[int]:
        taken = list(range(self.next_fetch_offset, 3))[:limit]
        self.next_fetch_offset += len(taken)
        return taken

    def drain(self) -> None:
        self.next_fetch_offset = 3


@pytest.fixture
def fetcher() -> Any:
    """One partition is in line, and one is parked."""
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([IN_LINE, PARKED])
    for source in (IN_LINE, PARKED):
        subscriptions.seek(source, OffsetAndMetadata(0, "", -1))
    manager = SimpleNamespace(_net=None)
    fetcher: Any = Fetcher(SimpleNamespace(_manager=manager), subscriptions)
    fetcher._next_partition_records = Fetched(IN_LINE)
    fetcher._paused_partition_records[PARKED] = Fetched(PARKED)
    return fetcher


def poll(fetcher: Any, limit: int = 100) -> dict[TopicPartition, list[int]]:
    resume_parked_fetches(fetcher)
    records: dict[TopicPartition, list[int]]
    records, _ = fetcher.fetched_records(limit)
    return records


def test_one_that_was_paused_while_in_line_makes_way_and_comes_back(fetcher: Any) -> None:
    """The poll found nothing, and waited for what others would produce."""
    fetcher._subscriptions.pause(IN_LINE)
    assert poll(fetcher) == {PARKED: [0, 1, 2]}
    assert poll(fetcher) == {}
    fetcher._subscriptions.resume(IN_LINE)
    assert poll(fetcher) == {IN_LINE: [0, 1, 2]}


def test_one_that_was_read_to_its_end_makes_way(fetcher: Any) -> None:
    assert poll(fetcher, 3) == {IN_LINE: [0, 1, 2]}
    assert poll(fetcher) == {PARKED: [0, 1, 2]}


def test_one_that_is_not_paused_goes_on(fetcher: Any) -> None:
    assert poll(fetcher, 2) == {IN_LINE: [0, 1]}
    assert poll(fetcher, 1) == {IN_LINE: [2]}
    assert poll(fetcher) == {PARKED: [0, 1, 2]}


def test_what_is_parked_stays_there_while_paused(fetcher: Any) -> None:
    for source in (IN_LINE, PARKED):
        fetcher._subscriptions.pause(source)
    assert poll(fetcher) == {}
    for source in (PARKED, IN_LINE):
        fetcher._subscriptions.resume(source)
        assert poll(fetcher) == {source: [0, 1, 2]}
