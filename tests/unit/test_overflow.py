"""Whose records fill a partition: what gets a lane, and what does not."""

from __future__ import annotations

from pipeline.consumer.channels import KeyChannels
from pipeline.consumer.overflow import AGAIN_SECONDS, Overflow
from pipeline.consumer.rule_index import nobody
from pipeline.contracts.rule import Rule
from tests.support.records import record

HOT = Rule("key", "hot")


def channels(hot: int, cold: int) -> KeyChannels:
    made = KeyChannels()
    made.put([record(offset, "hot") for offset in range(hot)])
    made.put([record(hot + n, f"cold {n}") for n in range(cold)])
    return made


def looks(made: KeyChannels, filling: bool = True, most: int | None = None) -> list[Rule | None]:
    overflow = Overflow("key", nobody)
    return [overflow.look(made, filling, most, now) for now in (0.0, 1.0)]


def test_a_key_with_a_quarter_of_what_waits_gets_a_lane_at_the_second_look() -> None:
    assert looks(channels(30, 70)) == [None, HOT]
    assert looks(channels(3000, 7000)) == [None, HOT]


def test_a_key_with_less_gets_none() -> None:
    assert looks(channels(20, 80)) == [None, None]


def test_a_limit_can_be_given() -> None:
    assert looks(channels(20, 80), most=19) == [None, HOT]
    assert looks(channels(30, 70), most=30) == [None, None]


def test_nobody_gets_one_while_the_partition_is_not_half_full() -> None:
    assert looks(channels(100, 0), filling=False) == [None, None]


def test_a_key_that_is_kept_up_with_gets_none() -> None:
    overflow = Overflow("key", nobody)
    made = channels(50, 0)
    assert overflow.look(made, True, None, 0.0) is None
    made.done(made.take(50))
    made.put([record(50 + n, "hot") for n in range(50)])
    assert overflow.look(made, True, None, 1.0) is None


def test_a_key_whose_lane_was_just_closed_needs_twice_as_much() -> None:
    for hot, after, expected in ((30, 2.0, None), (60, 2.0, HOT), (30, AGAIN_SECONDS + 1, HOT)):
        overflow = Overflow("key", nobody)
        overflow.closed(HOT, 0.0)
        made = channels(hot, 100 - hot)
        overflow.look(made, True, None, after - 1)
        assert overflow.look(made, True, None, after) == expected


def test_what_can_not_be_named_gets_none() -> None:
    made = KeyChannels()
    made.put([record(offset, (("@key", b"x"),)) for offset in range(10)])
    assert looks(made) == [None, None]
