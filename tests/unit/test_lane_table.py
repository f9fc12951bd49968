"""Which lane answers for a record: the predicate that both sides, and every later owner, go by."""

from __future__ import annotations

from pipeline.consumer.lane_table import LaneTable
from pipeline.consumer.rule_index import nobody
from pipeline.contracts.lane import Lane, LaneReason
from pipeline.contracts.rule import Rule
from pipeline.records.path import Path
from pipeline.records.record import Record
from pipeline.records.tenant import tenant_reader
from tests.support.records import record

HOT = Rule("key", "hot")
TENANT = Rule("tenant", "t1")

tenant_of = tenant_reader(Path.parse("tenant"))


def lane(number: int, rule: Rule, start: int, until: int | None = None, **more: object) -> Lane:
    return Lane(number, rule, LaneReason.HOLD, start, until, **more)  # type: ignore[arg-type]


def of_tenant(offset: int, key: str = "hot") -> Record:
    return record(offset, key, {"tenant": "t1"})


def answering(table: LaneTable, found: Record) -> int | None:
    lane = table.lane_of(found)
    return None if lane is None else lane.number


def test_a_lane_answers_from_its_start_up_to_its_end() -> None:
    table = LaneTable(nobody)
    table.put(lane(1, HOT, 10, 20))
    answers = [answering(table, record(offset, "hot")) for offset in (9, 10, 19, 20)]
    assert answers == [None, 1, 1, None]
    assert answering(table, record(15, "cold")) is None


def test_what_is_left_out_stays_with_the_main_way() -> None:
    table = LaneTable(tenant_of)
    table.put(lane(1, TENANT, 10, left_out=((11, 13), (15, 16))))
    answers = [answering(table, of_tenant(offset)) for offset in range(10, 18)]
    assert answers == [1, None, None, 1, 1, None, 1, 1]


def test_the_oldest_of_several_lanes_answers() -> None:
    table = LaneTable(tenant_of)
    table.put(lane(2, HOT, 0), lane(1, TENANT, 10, 20))
    assert [answering(table, of_tenant(offset)) for offset in (9, 10, 20)] == [2, 1, 2]


def test_a_lane_that_is_forgotten_answers_no_more() -> None:
    table = LaneTable(nobody)
    table.put(lane(1, HOT, 0, 20))
    table.forget([1])
    assert answering(table, record(5, "hot")) is None
    assert not len(table)


def test_a_closed_lane_is_not_the_open_one_of_its_rule() -> None:
    table = LaneTable(nobody)
    table.put(lane(1, HOT, 0, 20))
    assert table.open_lane_of(HOT) is None
    table.put(lane(2, HOT, 30))
    assert table.open_lane_of(HOT) == lane(2, HOT, 30)


def test_no_tenant_is_read_while_no_lane_is_a_tenants() -> None:
    def never(record: Record) -> None:
        raise AssertionError(f"the tenant of {record} was read")

    table = LaneTable(never)
    table.put(lane(1, HOT, 0))
    assert answering(table, record(5, "hot")) == 1


def test_a_tenant_is_read_from_what_was_sent_whatever_the_sink_decodes() -> None:
    sent = record(1, "k", {"id": 1, "by": {"app": 7}, "x": 1.0})
    sent.document = None
    assert tenant_reader(Path.parse("by.app"))(sent) == 7
    assert tenant_reader(Path.parse("x"))(sent) == 1
    assert tenant_reader(Path.parse("@key"))(sent) == "k"
    assert tenant_reader(Path.parse("by"))(sent) is None
    assert tenant_reader(Path.parse("no"))(sent) is None
    sent.raw.value = b"{"  # type: ignore[misc]  # a record of a test
    assert tenant_reader(Path.parse("x"))(sent) is None
