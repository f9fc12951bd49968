"""What was fetched and is not decoded yet."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.consumer.backlog import Backlog
from pipeline.kafka.record_batches import PlainBatch
from pipeline.records.record import RawRecord
from tests.support.records import Raw


class Batch:
    """A batch that says it holds ``more`` records than there are, as one amid which a start lies."""

    def __init__(self, offsets: Sequence[int], more: int) -> None:
        self.offsets = offsets
        self.more = more
        self.opened = False

    def __len__(self) -> int:
        return len(self.offsets) + self.more

    @property
    def size(self) -> int:
        return 10 * len(self)

    def records(self) -> Sequence[RawRecord]:
        assert not self.opened, "decoded once"
        self.opened = True
        return [Raw(offset) for offset in self.offsets]


def batches(sizes: Sequence[tuple[int, int]]) -> list[Batch]:
    made, offset = [], 0
    for size, more in sizes:
        made.append(Batch(range(offset, offset + size), more))
        offset += size
    return made


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_records_come_out_once_and_in_order(
    sizes: list[tuple[int, int]], limits: list[int]
) -> None:
    backlog, made = Backlog(), batches(sizes)
    backlog.add(made[:5])
    backlog.add(made[5:])
    taken: list[int] = []
    for limit in limits * (sum(size for size, _ in sizes) + 1):
        found = [record.offset for record in backlog.take(limit)]
        assert len(found) <= limit
        assert found or not backlog.records
        taken += found
    assert taken == list(range(sum(size for size, _ in sizes)))
    assert backlog.records == backlog.bytes == 0


def test_no_more_is_decoded_than_is_asked_for() -> None:
    backlog, made = Backlog(), batches([(3, 0), (3, 0), (3, 0)])
    backlog.add(made)
    assert [record.offset for record in backlog.take(4)] == [0, 1, 2, 3]
    assert [batch.opened for batch in made] == [True, True, False]
    assert backlog.records == 5


def test_dropped_records_are_counted_and_gone() -> None:
    backlog = Backlog()
    backlog.add(batches([(3, 0), (3, 0)]))
    backlog.take(1)
    assert backlog.clear() == 5
    assert (backlog.records, list(backlog.take(9))) == (0, [])


def test_large_records_are_believed_at_once_and_small_ones_after_a_while() -> None:
    backlog = Backlog()
    sizes = [10, 1000, 10, 10, 10]
    for size in sizes:
        backlog.add([PlainBatch([Raw(0, value=b"x" * size)])])
    found = []
    for _ in sizes:
        backlog.take(1)
        found.append(backlog.record_bytes)
    assert found[:2] == [10, 1000]
    assert sorted(found[1:], reverse=True) == found[1:]
    assert 10 < found[-1] < 1000


def test_bytes_are_those_of_batches_until_they_are_decoded_and_of_their_records_then() -> None:
    backlog = Backlog()
    backlog.add([Batch([0, 1, 2], 0), Batch([3], 0)])
    assert (backlog.bytes, backlog.record_bytes) == (40, 0)
    backlog.take(1)
    assert backlog.record_bytes == len(Raw().value or b"")
    assert backlog.bytes == 2 * backlog.record_bytes + 10
    assert backlog.clear() == 3
    assert backlog.bytes == 0
