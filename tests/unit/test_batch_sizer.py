"""How many records a transaction holds."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts.store import Claim
from pipeline.postgres.store.batch_sizer import (
    CALLING_SECONDS,
    LONGEST_SECONDS,
    SLOW_SECONDS,
    SPREADING_SECONDS,
    WHOLE_SECONDS,
    BatchSizer,
    BatchSizers,
)
from pipeline.records.record import TopicPartition


def test_the_declared_sink_takes_all_it_may() -> None:
    sizer = BatchSizer(1000, bounded=False)
    sizer.observe(1000, 60.0)
    assert (sizer.limit, sizer.spreading) == (1000, 1000)


def settled(sizer: BatchSizer, calling: float, whole: float) -> list[int]:
    """The limits while each record's call takes ``calling`` and its transaction ``whole`` seconds."""
    limits = []
    for _ in range(12):
        limits.append(sizer.limit)
        sizer.called(limits[-1], limits[-1] * calling)
        sizer.observe(limits[-1], limits[-1] * whole)
    return limits


def test_a_handlers_batches_grow_step_by_step() -> None:
    limits = settled(BatchSizer(1000, bounded=True), CALLING_SECONDS / 50, CALLING_SECONDS / 50)
    assert limits == [1, 2, 4, 8, 16, 32, 50, 50, 50, 50, 50, 50]


def test_they_shrink_at_once_when_calls_get_slow() -> None:
    sizer = BatchSizer(1000, bounded=True)
    settled(sizer, 1e-6, 1e-5)
    assert (sizer.limit, sizer.spreading, sizer.slow) == (1000, 1000, False)
    sizer.called(1000, 1000 * CALLING_SECONDS)
    assert (sizer.limit, sizer.spreading, sizer.slow) == (1, 1, True)


def test_they_shrink_at_once_when_a_transaction_took_too_long() -> None:
    sizer = BatchSizer(1000, bounded=True)
    settled(sizer, 1e-6, 1e-5)
    sizer.observe(1000, 4 * WHOLE_SECONDS)
    assert sizer.limit == 250


def test_waiting_for_postgres_does_not_make_the_batches_of_a_quick_handler_small() -> None:
    """Many transactions at once share what Postgres gets through: a small one takes long, too."""
    sizer = BatchSizer(1000, bounded=True)
    settled(sizer, 1e-6, 1e-5)
    sizer.called(10, 1e-5)
    sizer.observe(10, 0.9 * WHOLE_SECONDS)
    assert (sizer.limit, sizer.spreading) == (1000, 1000)


def test_small_transactions_prove_nothing_for_large_ones() -> None:
    """A burst after a quiet hour must not become one transaction that runs into its timeout."""
    sizer = BatchSizer(1000, bounded=True)
    for _ in range(100):
        sizer.called(1, 1e-6)
        sizer.observe(1, 0.01)
    assert sizer.limit == 2


def with_fixed_cost(sizer: BatchSizer, fixed: float, each: float) -> int:
    """The limit after a while in which a transaction takes ``fixed`` seconds, and ``each`` a record."""
    for _ in range(60):
        sizer.called(sizer.limit, 1e-6)
        sizer.observe(sizer.limit, fixed + sizer.limit * each)
    return sizer.limit


def test_where_one_record_takes_long_already_batches_do_not_stay_small() -> None:
    """100 ms of way to the server: six round trips take 0.6 s, with one record or with 500."""
    sizer = BatchSizer(1000, bounded=True)
    settled(sizer, 1e-6, 1e-5)
    assert with_fixed_cost(sizer, fixed=0.6, each=0.001) > 400
    sizer.observe(20, 0.05)
    sizer.observe(400, 4 * WHOLE_SECONDS)
    assert sizer.limit == 100, "a small one was quick again: as ever"


def test_one_record_that_waited_long_allows_no_transaction_of_minutes() -> None:
    sizer = BatchSizer(1000, bounded=True)
    sizer.observe(1, 60.0)
    assert with_fixed_cost(sizer, fixed=0.0, each=0.1) * 0.1 <= LONGEST_SECONDS


def test_while_turns_are_free_a_slow_handlers_batches_are_smaller() -> None:
    sizer = BatchSizer(5000, bounded=True)
    settled(sizer, SPREADING_SECONDS / 2, SPREADING_SECONDS / 2)
    assert sizer.spreading == 2
    assert sizer.limit == int(2 * CALLING_SECONDS / SPREADING_SECONDS)


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100), st.floats(0, 100)), max_size=20),
    st.integers(1, 1000),
)
def test_the_limits_are_between_one_and_the_largest(
    observed: list[tuple[int, float, float]], largest: int
) -> None:
    sizer = BatchSizer(largest, bounded=True)
    for count, calling, seconds in observed:
        sizer.called(count, calling)
        sizer.observe(count, seconds)
        assert 1 <= sizer.spreading <= sizer.limit <= largest


def claim(lane: int | None = None) -> Claim:
    return Claim("group", TopicPartition("topic", 0), UUID(int=1), lane)


def test_what_a_lanes_calls_take_says_nothing_of_the_partitions_batches() -> None:
    """A hot key behind a slow handler would make everybody's batches small, and so everybody slow."""
    sizers = BatchSizers(1000, bounded=True)
    for each, calling in ((claim(), 1e-6), (claim(7), CALLING_SECONDS / 10)):
        for _ in range(12):
            sizers.called(each, 1000, 1000 * calling)
            sizers.of(each).observe(1000, 0.01)
    assert sizers.of(claim()).limit == 1000
    assert sizers.of(claim(7)).limit == 10


def test_slots_are_given_out_while_any_of_them_is_slow() -> None:
    sizers = BatchSizers(1000, bounded=True)
    sizers.called(claim(), 1, SLOW_SECONDS / 2)
    assert not sizers.slow
    sizers.called(claim(7), 1, SLOW_SECONDS)
    sizers.called(claim(), 1, SLOW_SECONDS / 2)
    assert sizers.slow
    sizers.forget(claim(7))
    assert not sizers.slow


def test_all_sizes_change_with_the_largest() -> None:
    sizers = BatchSizers(50, bounded=False)
    assert sizers.of(claim()).limit == 50
    sizers.resize(20)
    assert [sizers.of(each).limit for each in (claim(), claim(7))] == [20, 20]
