"""Records that go apart: lanes, holds, and the heaviest tenants and keys, on the page and on a terminal."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import attrs

from pipeline.contracts.lane import LaneReason
from pipeline.contracts.rule import Rule
from pipeline.contracts.snapshot import LaneSnapshot, Phase
from pipeline.contracts.wish import Hold, HoldState
from pipeline.dashboard.group import merged
from pipeline.dashboard.ingest_model import IngestModel
from pipeline.dashboard.peers import Seen, readable
from pipeline.observe.heavy import Heavy
from pipeline.records.record import TopicPartition
from tests.support.dashboards import NOW, ONE, TWO, Given, present
from tests.unit.test_dashboard_group import seen
from tests.unit.test_top import lines

HOLD = Hold(id="h1", by="ada@host", since=0, why="refunds", rule=Rule("tenant", "app-7"))
HELD = LaneSnapshot(
    1,
    HOLD.rule,
    LaneReason.HOLD,
    "held",
    waiting=120,
    time_lag=61.0,
    opened_at=NOW - 600,
    hold=HOLD,
)
HOT = LaneSnapshot(
    2, Rule("key", "12"), LaneReason.OVERFLOW, waiting=40, time_lag=90.0, opened_at=NOW
)
WITH_LANES = attrs.evolve(ONE, lanes=(HELD, HOT))


def group(*others: Any, **given: Any) -> dict[str, Any]:
    return {**merged(Given(**given).model().state(), others, whole=True), "note": ""}


def test_lanes_are_told_with_partition_owner_and_hold_and_the_oldest_first() -> None:
    hot, held = group(partitions=[WITH_LANES])["lanes"]
    assert held == {
        "topic": "sessions", "partition": 0, "owner": "owner-me", "number": 1,
        "records_of": "tenant app-7", "reason": "hold", "state": "held", "waiting": 120,
        "time_lag_seconds": 61.0, "opened_at": NOW - 600, "hold": {"id": "h1", "by": "ada@host"},
        "failure": None,
    }  # fmt: skip
    assert (hot["records_of"], hot["reason"], hot["hold"]) == ('key "12"', "overflow", None)


def test_lanes_of_a_partition_that_is_handed_over_are_its_newer_owners() -> None:
    old = attrs.evolve(WITH_LANES, phase=Phase.DRAINING)
    new = Given("new", partitions=[attrs.evolve(ONE, lanes=(HOT,))]).model()
    (lane,) = group(seen(new), partitions=[old])["lanes"]
    assert (lane["owner"], lane["number"]) == ("owner-new", 2)


def test_a_long_key_is_cut_and_bytes_are_marked() -> None:
    odd = attrs.evolve(HOT, rule=Rule("key", "\udcff" + "k" * 10_000))
    (lane,) = group(partitions=[attrs.evolve(ONE, lanes=(odd,))])["lanes"]
    assert lane["records_of"].startswith("key \\xffkkk")
    assert len(lane["records_of"]) < 120


def test_a_hold_is_told_once_by_whom_why_and_until_when() -> None:
    hold = attrs.evolve(HOLD, until=60_000, state=HoldState.DROPPING)
    (told,) = group(seen(Given("other", holds=[hold]).model()), holds=[hold])["holds"]
    assert told == {
        "id": "h1", "records_of": "tenant app-7", "state": "dropping",
        "story": "by ada@host since 1970-01-01 00:00 UTC, until 1970-01-01 00:01 UTC: refunds",
    }  # fmt: skip


def test_tenants_and_keys_are_added_up_over_instances_the_heaviest_first() -> None:
    other = Given("other", tenants=[Heavy("b", 30.0, 3, 2, 0.5), Heavy(7, 1.0, 1, 1, 0.1)])
    mine = [Heavy("a", 20.0, 9, 9, 9.0), Heavy("b", 5.0, 5, 4, 0.25), Heavy("7", 2.0, 1, 1, 0.0)]
    state = group(seen(other.model()), tenants=mine, keys=[Heavy("k", 1.0)])
    assert [each["name"] for each in state["tenants"]] == ["b", "a", '"7"', "7"]
    assert state["tenants"][0] == {
        "name": "b", "recent": 35.0, "records": 8, "rows": 6, "seconds": 0.75
    }  # fmt: skip
    assert [each["name"] for each in state["keys"]] == ["k"]


def test_no_more_tenants_are_shown_than_one_instance_tells() -> None:
    mine = [Heavy(f"a{n}", 1.0) for n in range(20)]
    other = Given("other", tenants=[Heavy(f"b{n}", 2.0) for n in range(20)])
    tenants = group(seen(other.model()), tenants=mine)["tenants"]
    assert [each["name"][0] for each in tenants] == ["b"] * 20


def test_without_a_tenants_path_nothing_is_told_of_usage() -> None:
    given = Given(tenants=[Heavy("a", 1.0)])
    model = given.model()
    model._sources = attrs.evolve(model._sources, usage=None)
    assert (model.state()["tenants"], model.state()["keys"]) == ([], [])


def test_an_instance_of_a_version_without_lanes_or_an_endpoint_is_no_trouble() -> None:
    old = {**Given("old", partitions=[TWO]).model().state()}
    for name in ("holds", "tenants", "keys"):
        del old[name]
    del old["partitions"][0]["lanes"]
    ingest = IngestModel(Given("in").identity(), Given().metrics, lambda: 0, tuple)
    endpoint = Seen(present(ingest, 1), ingest.state())
    others = [seen(Given("old").model(), **readable(old)), endpoint]
    odd = seen(Given("odd").model(), **readable({"partitions": [], "holds": ["x"], "keys": {}}))
    assert len(group(*others, odd, partitions=[WITH_LANES])["lanes"]) == 2


def test_the_terminal_has_a_table_of_lanes_and_a_line_for_each_hold_in_80_columns() -> None:
    wide = attrs.evolve(HELD, rule=Rule("key", "k" * 90), state="waits for earlier records")
    released = attrs.evolve(HOLD, id="h2", state=HoldState.RELEASED)
    state = group(partitions=[attrs.evolve(ONE, lanes=(HELD, HOT, wide))], holds=[HOLD, released])
    shown = lines(state)
    assert max(map(len, shown)) <= 80
    (hold,) = [line for line in shown if line.startswith("held: ")]
    assert hold == "held: tenant app-7 (h1), by ada@host since 1970-01-01 00:00 UTC: refunds"
    assert not any("(h2)" in line for line in shown)
    table = [" ".join(line.split()) for line in shown[-4:]]
    assert table[0] == "lane of records of reason state waiting time lag for hold"
    assert table[1] == 'sessions-0 key "12" overflow working 40 90.0 s 0.0 s -'
    assert table[2] == "sessions-0 tenant app-7 hold held 120 61.0 s 10 min h1"
    assert "kkkk hold waits 120 61.0 s" in table[3]


def test_the_terminal_shows_the_heaviest_tenants_and_keys() -> None:
    state = group(tenants=[Heavy("app-7", 12.4, 9000, 80, 1.25)], keys=[Heavy("k" * 90, 3.0, 4, 4)])
    shown = lines(state)
    assert max(map(len, shown)) <= 80
    assert " ".join(shown[-3].split()) == "heaviest of late of late records rows in Postgres"
    assert " ".join(shown[-2].split()) == "tenant app-7 12 9,000 80 1.2 s"
    assert shown[-1].startswith("key kkk")


def test_without_them_the_terminal_has_no_such_tables() -> None:
    text = "\n".join(lines(group()))
    assert "lane of" not in text
    assert "heaviest" not in text


def test_what_goes_apart_leaves_room_for_the_partitions() -> None:
    many = tuple(attrs.evolve(HOT, number=n) for n in range(60))
    heavy = [Heavy(f"a{n}", 1.0) for n in range(20)]
    given: dict[str, Any] = {"tenants": heavy, "keys": heavy, "shards": []}
    partitions = [attrs.evolve(ONE, source=TopicPartition("sessions", n)) for n in range(40)]
    partitions[0] = attrs.evolve(partitions[0], lanes=many)
    for height in (20, 24, 60):
        shown = lines(group(partitions=partitions, **given), rows=height)
        assert len(shown) <= height
        assert sum(line.startswith("sessions-") for line in shown) > 3
        assert any(re.match(r"and \d+ more lanes, with younger records", x) for x in shown)


def test_of_very_many_lanes_the_oldest_are_shown_and_the_others_counted() -> None:
    many = tuple(attrs.evolve(HOT, number=n, time_lag=float(n)) for n in range(103))
    state = group(partitions=[attrs.evolve(ONE, lanes=many)])
    assert [each["number"] for each in state["lanes"]] == list(range(102, 2, -1))
    assert state["lanes_left_out"] == 3
    assert lines(state)[-1] == "and 3 more lanes, with younger records"
    assert lines(state, rows=40)[-1].startswith("and 9")


def test_many_holds_are_counted_on_the_terminal() -> None:
    holds = [attrs.evolve(HOLD, id=f"h{n}") for n in range(9)]
    shown = lines(group(holds=holds))
    assert sum(line.startswith("held: ") for line in shown) == 5
    assert "and 4 more holds: pipeline hold list" in shown


def test_the_page_has_a_place_for_all_that_its_script_fills() -> None:
    page = files("pipeline.dashboard") / "page"
    html, script = (page / "index.html").read_text(), (page / "dashboard.js").read_text()
    places = set(re.findall(r'id="([\w-]+)"', html))
    filled = set(re.findall(r'(?:at|rows|items)\("([\w-]+)"', script))
    filled |= {f"{name}{end}" for name in ("tenants", "keys") for end in ("", "-section")}
    assert {"lanes", "lanes-section", "lanes-more", "holds", "holds-section"} <= filled <= places
    for name in ("lanes", "holds", "tenants", "keys"):
        head = html[html.index(f'id="{name}-section"') : html.index(f'<tbody id="{name}"')]
        row = re.search(rf'rows\("{name}", .*', script) or re.search(r"rows\(name, .*", script)
        assert row is not None
        assert head.startswith(f'id="{name}-section" hidden')
        assert head.count('<th scope="col"') == _cells(row[0])


def _cells(row: str) -> int:
    """How many cells a line of the script makes: the commas between them, at the list's own depth."""
    inside = row[row.index("cells: [") + len("cells: [") :]
    depth, count = 0, 1
    for letter in inside:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            break
        count += letter == "," and depth == 0
    return count
