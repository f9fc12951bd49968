"""Who may hold how much of what all may."""

from __future__ import annotations

import pytest

from pipeline.consumer.buffer_budget import BufferBudget, Share

TOTAL, ONE, LARGE = 10_000, 8_000, 1_000_000_000


def limits(*, buffered: int = ONE, size: int = LARGE) -> BufferBudget:
    return BufferBudget(buffered, TOTAL, size, batch=1000, batch_bytes=LARGE)


def among(partitions: int, common: BufferBudget) -> list[Share]:
    return [Share(common) for _ in range(partitions)]


def fill(shares: list[Share], record_bytes: int = 1) -> list[int]:
    """Give each partition a record in turn until all are full; what each holds then."""
    held = [0] * len(shares)
    while not all(share.fullness >= 1 for share in shares):
        for place, share in enumerate(shares):
            if share.fullness < 1:
                held[place] += 1
                share.hold(held[place], held[place] * record_bytes)
    return held


@pytest.mark.parametrize(("busy", "each"), [(1, TOTAL // 2), (3, TOTAL // 4), (9, TOTAL // 10)])
def test_busy_partitions_share_what_idle_ones_leave(busy: int, each: int) -> None:
    common = limits()
    shares = among(16, common)
    held = fill(shares[:busy])
    assert all(abs(one - each) <= 1 for one in held)
    assert common.records == sum(held)


def test_a_partition_has_a_limit_of_its_own_and_may_always_hold_a_few() -> None:
    assert fill(among(1, limits(buffered=700))) == [700]
    assert fill(among(100, limits())) == [BufferBudget.LEAST] * 100


def test_bytes_are_shared_in_the_same_way() -> None:
    assert fill(among(3, limits(size=1_000_000)), 1000) == [250] * 3
    assert fill(among(1, limits(size=100)), 10) == [10]


def test_what_one_gives_back_is_there_for_the_others() -> None:
    common = limits()
    one, other = among(2, common)
    one.hold(6000, 0)
    other.hold(4000, 0)
    assert other.fullness >= 1
    one.hold(0, 0)
    assert other.fullness < 1
    other.hold(0, 0)
    assert (common.records, common.size) == (0, 0)


@pytest.mark.parametrize(
    ("asked", "record_bytes", "given"),
    [(500, 0.0, 500), (5000, 1.0, 1000), (500, LARGE / 10, 10), (500, 2.0 * LARGE, 1)],
)
def test_as_many_at_once_as_a_transaction_may_hold(
    asked: int, record_bytes: float, given: int
) -> None:
    assert limits().at_once(asked, record_bytes) == given
