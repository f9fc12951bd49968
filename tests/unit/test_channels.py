"""Key channels: the laws of the scheduler, under random histories of put, take, done and clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from pipeline.consumer.channels import Batch, Channels, KeyChannels
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.records.record import Record
from tests.support.records import record

KEYS = 5


def one_key(numbers: list[int]) -> Hashable:
    return numbers[0]


def several_keys(numbers: list[int]) -> Hashable:
    return tuple(enumerate(numbers))


def keys_of(record: Record) -> tuple[Hashable, ...]:
    """The keys of a record of either kind."""
    ordering = record.ordering
    return ordering if isinstance(ordering, tuple) else (ordering,)


class Laws(RuleBasedStateMachine):
    """The model: every record is waiting, in flight, done, or dropped, and each key is a list."""

    make: ClassVar[type[KeyChannels] | type[MultiKeyChannels]]
    most_keys: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        self.channels: Channels = self.make()
        self.offset = 0
        self.waiting: dict[int, Record] = {}
        self.batches: list[Batch] = []
        self.last_taken: dict[Hashable, int] = {}

    @property
    def held(self) -> set[Hashable]:
        return {
            key for batch in self.batches for record in batch.records for key in keys_of(record)
        }

    def runnable(self, held: set[Hashable]) -> list[Record]:
        """What is first in all its channels, none of them held."""
        seen = set(held)
        found = []
        for offset in sorted(self.waiting):
            keys = keys_of(self.waiting[offset])
            if seen.isdisjoint(keys):
                found.append(self.waiting[offset])
            seen.update(keys)
        return found

    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        sizes = st.lists(
            st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=self.most_keys), max_size=12
        )
        ordering = one_key if self.most_keys == 1 else several_keys
        records = []
        for numbers in data.draw(sizes):
            records.append(record(self.offset, ordering(numbers)))
            self.offset += data.draw(st.integers(1, 3))
        self.channels.put(records)
        self.waiting |= {record.offset: record for record in records}

    @rule(limit=st.integers(1, 15))
    def take(self, limit: int) -> None:
        held = self.held
        runnable = self.runnable(held)
        batch = self.channels.take(limit)
        assert bool(batch.records) == bool(runnable), "ready work is given, and nothing else"
        assert len(batch) <= limit
        seen: dict[Hashable, int] = {}
        for each in batch.records:
            assert self.waiting.pop(each.offset) is each, "nothing is given twice"
            for key in keys_of(each):
                assert key not in held, "a key is in flight twice"
                assert seen.get(key, -1) < each.offset, "order within a key, inside the batch"
                assert self.last_taken.get(key, -1) < each.offset, "order within a key"
                seen[key] = each.offset
        self.last_taken |= seen
        for left in self.waiting.values():
            for key in keys_of(left):
                assert seen.get(key, -1) < left.offset, "a record was passed by one of its key"
        if batch.records:
            self.batches.append(batch)
        if len(batch) < limit:
            assert not self.runnable(held), "there was room for what only this batch holds up"

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        batch = self.batches.pop(data.draw(st.integers(0, len(self.batches) - 1)))
        self.channels.done(batch)

    @rule(numbers=st.sets(st.integers(0, KEYS - 1), max_size=2))
    def withdraw(self, numbers: set[int]) -> None:
        """All that waits and shares a key with one that is meant, as a tenant's records do."""
        meant = {key for n in numbers for key in (n, *((place, n) for place in range(3)))}
        while (
            more := {
                key
                for record in self.waiting.values()
                if not meant.isdisjoint(keys_of(record))
                for key in keys_of(record)
            }
            - meant
        ):
            meant |= more
        wanted = [o for o, r in sorted(self.waiting.items()) if not meant.isdisjoint(keys_of(r))]
        found = self.channels.withdraw(lambda record: not meant.isdisjoint(keys_of(record)))
        assert [record.offset for record in found] == wanted
        for offset in wanted:
            del self.waiting[offset]

    @invariant()
    def what_waits_is_shown(self) -> None:
        assert {r.offset for r in self.channels.waiting_records()} == set(self.waiting)

    @rule()
    def clear(self) -> None:
        assert self.channels.clear() == len(self.waiting)
        self.waiting.clear()

    @invariant()
    def counts_are_right(self) -> None:
        assert self.channels.waiting == len(self.waiting)
        assert self.channels.in_flight == sum(map(len, self.batches))

    @invariant()
    def ready_tells_the_truth(self) -> None:
        assert bool(self.channels.ready) == bool(self.runnable(self.held))

    @invariant()
    def channels_are_those_of_the_active_keys(self) -> None:
        waiting = {key for record in self.waiting.values() for key in keys_of(record)}
        assert self.channels.active_keys == len(waiting | self.held)

    def teardown(self) -> None:
        """All that was put comes out, and then no channel is left."""
        for batch in self.batches:
            self.channels.done(batch)
        self.batches.clear()
        while self.channels.ready:
            self.take(3)
            self.channels.done(self.batches.pop())
        assert not self.waiting, "a record was lost"
        assert self.channels.active_keys == 0, "a channel was left open"


class OneKeyLaws(Laws):
    make = KeyChannels


class SingleOfManyLaws(Laws):
    """One key a record, in the channels made for several."""

    make = MultiKeyChannels

    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        records = []
        for number in data.draw(st.lists(st.integers(0, KEYS - 1), max_size=12)):
            records.append(record(self.offset, ((0, number),)))
            self.offset += 1
        self.channels.put(records)
        self.waiting |= {record.offset: record for record in records}


class ThreeKeyLaws(Laws):
    make = MultiKeyChannels
    most_keys = 3


for machine in (OneKeyLaws, SingleOfManyLaws, ThreeKeyLaws):
    machine.TestCase.settings = settings(stateful_step_count=30)

TestOneKey = OneKeyLaws.TestCase
TestSingleOfMany = SingleOfManyLaws.TestCase
TestThreeKeys = ThreeKeyLaws.TestCase


@pytest.mark.parametrize("make", [KeyChannels, MultiKeyChannels])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_cold_key_waits_for_no_more_than_one_batch_of_a_hot_one(
    make: type[Channels], limit: int
) -> None:
    ordering = one_key if make is KeyChannels else several_keys
    channels = make()
    hot = [record(offset, ordering([0])) for offset in range(1000)]
    channels.put(hot)
    channels.put([record(1000, ordering([1]))])
    first = channels.take(limit)
    channels.put([record(2000 + n, ordering([0])) for n in range(1000)])
    channels.done(first)
    second = channels.take(limit)
    assert 1000 in [record.offset for record in second.records]


@pytest.mark.parametrize("make", [KeyChannels, MultiKeyChannels])
def test_hot_keys_take_turns(make: type[Channels]) -> None:
    """Whatever is put, a key that became ready is served after those that were ready before it."""
    ordering = one_key if make is KeyChannels else several_keys
    channels, offset, served = make(), 0, Counter[int]()
    for _ in range(30):
        for key in (0, 1, 2):
            channels.put([record(offset + n, ordering([key])) for n in range(10)])
            offset += 10
        batch = channels.take(5)
        numbers = {keys_of(record)[0] for record in batch.records}
        served.update(number if isinstance(number, int) else number[1] for number in numbers)  # type: ignore[index]
        channels.done(batch)
    assert served == {0: 10, 1: 10, 2: 10}


def test_a_hot_key_in_flight_leaves_the_others_to_other_writers() -> None:
    channels = KeyChannels()
    channels.put([record(n, "hot") for n in range(10)])
    first = channels.take(4)
    channels.put([record(10, "cold")])
    assert [r.offset for r in channels.take(100).records] == [10]
    assert not channels.ready
    channels.done(first)
    assert [r.offset for r in channels.take(100).records] == [4, 5, 6, 7, 8, 9]


def test_what_came_while_the_key_was_in_flight_goes_in_one_batch() -> None:
    channels = KeyChannels()
    channels.put([record(0, "a")])
    first = channels.take(1)
    for offset in range(1, 500):
        channels.put([record(offset, "a")])
    channels.done(first)
    assert len(channels.take(1000)) == 499


def test_a_batch_follows_the_chains_of_several_keys() -> None:
    """b waits for a and c for b, but one batch applies them in order: none has to wait."""
    channels = MultiKeyChannels()
    a, b, c = record(0, ("x",)), record(1, ("x", "y")), record(2, ("y",))
    channels.put([a, b, c])
    assert channels.take(10).records == [a, b, c]


def test_a_record_of_several_keys_waits_for_each_of_them() -> None:
    channels = MultiKeyChannels()
    channels.put([record(0, ("x",)), record(1, ("y",))])
    x, y = channels.take(1), channels.take(1)
    both = record(2, ("x", "y"))
    channels.put([both])
    channels.done(x)
    assert not channels.ready
    channels.done(y)
    assert channels.take(1).records == [both]


def test_clear_keeps_the_keys_that_are_in_flight() -> None:
    channels = KeyChannels()
    channels.put([record(n, "a") for n in range(5)])
    batch = channels.take(2)
    assert channels.clear() == 3
    channels.put([record(5, "a")])
    assert not channels.ready
    channels.done(batch)
    assert [r.offset for r in channels.take(9).records] == [5]
