"""The commit's metadata: it brings back what was applied, and never claims what was not."""

from __future__ import annotations

import base64
import random
import zlib

from hypothesis import given
from hypothesis import strategies as st

from pipeline.consumer.offset_tracker import OffsetTracker
from pipeline.contracts.commit_metadata import (
    MAX_BYTES,
    MAX_SPAN,
    decode,
    encode,
    unfold,
)
from pipeline.records.ranges import ranges_of
from pipeline.records.record import RawRecord, Record, TopicPartition

COMMITTED = st.integers(0, 2**62)
ABOVE = st.sets(st.integers(1, 3000), max_size=400)


class Raw:
    """A record of which only the offset matters."""

    timestamp = 0
    key = value = None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def __init__(self, offset: int) -> None:
        self.offset = offset


def record(offset: int) -> Record:
    raw: RawRecord = Raw(offset)
    return Record(TopicPartition("t", 0), offset, raw, {}, offset)


def describe(offsets: OffsetTracker) -> str:
    """What goes along with a tracker's watermark."""
    watermark = offsets.watermark
    return "" if watermark is None else encode(watermark, offsets.completed_ranges())


def ranges(committed: int, above: set[int]) -> list[tuple[int, int]]:
    return ranges_of(committed + offset for offset in above)


@given(COMMITTED, ABOVE)
def test_what_fits_comes_back_whole(committed: int, above: set[int]) -> None:
    text = encode(committed, ranges(committed, above))
    assert unfold(text, committed) == {committed + offset for offset in above}


def test_nothing_above_costs_nothing() -> None:
    assert encode(7, []) == ""
    assert decode("", 7) == []


@given(st.integers(0, 2**32), st.integers(0, 60_000))
def test_what_does_not_fit_loses_its_top(seed: int, size: int) -> None:
    choose = random.Random(seed)
    above = {offset for offset in range(1, size) if choose.random() < 0.5}
    text = encode(1000, ranges(1000, above))
    assert len(text) <= MAX_BYTES
    claimed = decode(text, 1000)
    assert claimed == ranges(1000, above)[: len(claimed)]


def test_a_full_text_is_well_used() -> None:
    choose = random.Random(1)
    above = {offset for offset in range(1, 200_000) if choose.random() < 0.5}
    text = encode(5, ranges(5, above))
    assert len(text) > MAX_BYTES * 0.9
    assert max(unfold(text, 5)) > 20_000


def test_a_long_run_is_a_few_bytes() -> None:
    text = encode(10, [(11, 10 + MAX_SPAN)])
    assert len(text) < 60
    assert decode(text, 10) == [(11, 10 + MAX_SPAN)]


def test_nothing_is_claimed_further_up_than_a_reader_can_hold() -> None:
    assert decode(encode(0, [(5, 10 * MAX_SPAN)]), 0) == [(5, MAX_SPAN)]
    assert encode(0, [(2 * MAX_SPAN, 3 * MAX_SPAN)]) == ""


@given(COMMITTED, ABOVE)
def test_the_committed_offset_is_never_taken_as_done(committed: int, above: set[int]) -> None:
    lower = [(max(0, committed - 3), committed + 1)]
    text = encode(committed, [*lower, *ranges(committed + 1, above)])
    assert committed not in unfold(text, committed)
    assert all(offset > committed for offset in unfold(text, committed))


@given(COMMITTED, ABOVE, st.integers(-1000, 1000).filter(bool))
def test_a_text_moved_to_another_offset_claims_nothing(
    committed: int, above: set[int], by: int
) -> None:
    text = encode(committed, ranges(committed, above))
    assert decode(text, committed + by) == []


@given(st.text(), st.integers(0, 100))
def test_foreign_text_claims_nothing(text: str, committed: int) -> None:
    assert decode(text, committed) == []
    assert decode("p1:" + text, committed) == []


@given(ABOVE.filter(bool), st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_text_never_claims_an_offset_that_is_not_done(
    above: set[int], place: int, change: int
) -> None:
    text = encode(9, ranges(9, above))
    packed = bytearray(base64.b64decode(text[3:]))
    packed[place % len(packed)] ^= change
    damaged = text[:3] + base64.b64encode(packed).decode()
    assert unfold(damaged, 9) <= {9 + offset for offset in above}
    assert decode(text[:-4], 9) == []


def packed(plain: bytes) -> str:
    return "p1:" + base64.b64encode(zlib.compress(plain)).decode()


def test_a_forged_text_is_bounded() -> None:
    assert decode(packed(b"\x00b" + b"\xff" * MAX_SPAN), 0) == []  # longer than any of ours
    assert decode(packed(b"\x00r\x01" + b"\xff" * 8 + b"\x7f"), 0) == []  # a run without end
    assert decode(packed(b"\x00r\x00\x05"), 0) == []  # begins at the committed offset
    assert decode(packed(b"\x00x"), 0) == []  # a kind that is none
    assert decode(packed(b"\x00r\x01"), 0) == []  # a gap without its length
    assert decode(packed(b"\x00r\x02\x00"), 0) == []  # a run of nothing


@given(st.lists(st.integers(1, 4), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_a_tracker_starts_again_where_it_was(gaps: list[int], choose: random.Random) -> None:
    """Offsets with holes, done in any order, through a restart: nothing is lost or repeated."""
    offsets = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    records = [record(offset) for offset in offsets]
    tracker = OffsetTracker(0)
    tracker.admit(records)
    done = [one for one in records if choose.random() < 0.5]
    choose.shuffle(done)
    tracker.done(done)
    watermark, text = tracker.watermark, describe(tracker)
    assert watermark is not None
    again = OffsetTracker(watermark, unfold(text, watermark))
    fresh = again.admit([one for one in records if one.offset >= watermark])
    assert {one.offset for one in fresh} == set(offsets) - {one.offset for one in done}
    # And once more, before anything new is done: what was known is still known.
    assert again.watermark is not None
    known = unfold(describe(again), again.watermark)
    assert known >= {one.offset for one in done if one.offset > again.watermark}


def test_a_tracker_without_a_position_has_nothing_to_tell() -> None:
    assert describe(OffsetTracker(None)) == ""
