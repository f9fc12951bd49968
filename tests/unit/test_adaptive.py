"""The control law of a shard's limit, against a model of a server in virtual time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.postgres.connections.adaptive import AGEING_SECONDS, AdaptiveLimit
from pipeline.postgres.connections.baseline import FEWEST, Baseline
from tests.support.server_model import FixedLimit, ServerModel, always, between

SIZES = {
    "full": lambda _: 5000,
    "mixed": lambda chance: int(10 ** chance.uniform(0, 3.7)),
    "small": lambda chance: chance.randint(1, 20),
}
"""How many rows transactions have."""

limits = st.integers(2, 16)
cores = st.sampled_from([1.0, 2.0, 4.0, 8.0])
sizes = st.sampled_from(sorted(SIZES))
seeds = st.integers(0, 1000)


@pytest.mark.slow
@settings(max_examples=25)
@given(limits, cores, sizes, st.sampled_from([0.0, 0.0005, 0.02]), seeds)
def test_on_a_server_of_its_own_it_loses_nothing(
    largest: int, cores: float, size: str, delay: float, seed: int
) -> None:
    adaptive, fixed = (
        ServerModel(cores, SIZES[size], delay=always(delay), seed=seed) for _ in "ab"
    )
    adaptive.run(AdaptiveLimit(largest), 12.0)
    fixed.run(FixedLimit(largest), 12.0)
    assert adaptive.rate(1, 12) >= 0.95 * fixed.rate(1, 12)
    assert all(1 <= limit <= largest for _, limit in adaptive.limits)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(3, 16), st.sampled_from([1.0, 2.0]), sizes, seeds)
def test_it_falls_under_another_load_and_recovers(
    largest: int, cores: float, size: str, seed: int
) -> None:
    model = ServerModel(cores, SIZES[size], foreign=between(10, 25, 3 * largest, 0), seed=seed)
    model.run(AdaptiveLimit(largest), 40.0)
    assert model.mean_limit(5, 10) >= 0.98 * largest
    lowest = min(limit for when, limit in model.limits if 10 <= when < 25)
    assert lowest <= max(1, largest * 0.8)
    assert model.mean_limit(35, 40) >= 0.95 * largest


@pytest.mark.slow
@settings(max_examples=10)
@given(limits, sizes, seeds)
def test_a_longer_way_to_the_server_is_no_load(largest: int, size: str, seed: int) -> None:
    """To take less would not make the way shorter, and would cost throughput in proportion."""
    longer = between(10, 1000, 0.2, 0.0005)
    adaptive, fixed = (ServerModel(2.0, SIZES[size], delay=longer, seed=seed) for _ in "ab")
    adaptive.run(AdaptiveLimit(largest), 90.0)
    fixed.run(FixedLimit(largest), 90.0)
    assert adaptive.rate(60, 90) >= 0.8 * fixed.rate(60, 90)


def test_in_a_crowd_where_it_does_not_count_it_does_not_give_way_for_long() -> None:
    model = ServerModel(2.0, SIZES["full"], foreign=between(10, 1000, 60, 0))
    model.run(AdaptiveLimit(3), 90.0)
    assert min(limit for when, limit in model.limits if when > 10) == 1
    assert model.mean_limit(60, 90) >= 2.5


def test_a_server_that_is_slower_for_good_gets_its_full_limit_back() -> None:
    model = ServerModel(2.0, SIZES["full"], slower=between(10, 10_000, 3.0, 1.0))
    model.run(AdaptiveLimit(3), 10 + AGEING_SECONDS)
    assert model.mean_limit(10, 20) < 2.9
    assert model.mean_limit(AGEING_SECONDS - 30, 10 + AGEING_SECONDS) >= 2.8


def test_it_starts_with_one_and_is_up_after_as_many_transactions() -> None:
    limit = AdaptiveLimit(8)
    seen = []
    for number in range(8):
        seen.append(limit.limit)
        limit.observe(100, limit.limit, 0.01, number * 0.01)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


def test_transactions_below_the_limit_do_not_move_it() -> None:
    limit = AdaptiveLimit(2)
    limit.observe(1, 1, 0.01, 0.0)
    for number in range(1000):
        limit.observe(1, 1, 0.01 if number < 100 else 1.0, float(number))
    assert limit.limit == 2


def test_a_single_transaction_that_met_a_lock_takes_nothing() -> None:
    limit, seen = AdaptiveLimit(3), []
    for number in range(200):
        limit.observe(100, limit.limit, 10.0 if number == 150 else 0.05, number * 0.05)
        seen.append(limit.limit)
    assert set(seen[100:]) == {3}


def test_restarted_it_begins_with_one() -> None:
    limit = AdaptiveLimit(3)
    for number in range(20):
        limit.observe(100, limit.limit, 0.05, number * 0.05)
    limit.restart()
    assert limit.limit == 1


def learnt(rows: int, at_once: int, seconds: float) -> Baseline:
    baseline = Baseline()
    for _ in range(FEWEST):
        baseline.learn(rows, at_once, seconds)
    return baseline


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 16), st.integers(1, 16))
def test_what_was_seen_bounds_what_was_not(
    rows: int, other: int, at_once: int, beside: int
) -> None:
    """In proportion to rows and to the number at once upwards; no less downwards."""
    expected = learnt(rows, at_once, 1.0).expected(other, beside)
    assert expected is not None
    assert abs(expected - max(1, other / rows) * max(1, beside / at_once)) < 1e-9


def test_the_baseline_falls_at_once_and_is_no_single_lucky_transaction() -> None:
    baseline = learnt(100, 2, 1.0)
    baseline.learn(100, 2, 0.001)
    after_luck = baseline.expected(100, 2)
    assert after_luck is not None
    assert after_luck > 0.85
    chance = random.Random(1)
    for _ in range(50):
        baseline.learn(100, 2, chance.uniform(0.4, 0.6))
    settled = baseline.expected(100, 2)
    assert settled is not None
    assert 0.4 < settled < 0.6
