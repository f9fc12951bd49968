"""What `bench.sync_async` computes and writes, from requests and rows that are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import orjson
import pytest
import tomli_w

from bench.harness import page as page_of
from bench.harness.open_loop import NO_ANSWER, Shot
from bench.sync_async import report
from bench.sync_async.figures import Run, in_flight, lag, over_time, rounded, summary
from bench.sync_async.scenarios import BEFORE, SCENARIOS
from bench.sync_async.watching import Look
from bench.sync_async.ways import ASYNC, WAYS, configuration
from bench.sync_async.world import HOT, Write
from pipeline.config.load import load

SHOTS = [Shot(n, due=float(n), ended=n + 0.25, status=202) for n in range(30)]
WRITES = [Write(n, queued=n + 0.1, visible=n + 0.6) for n in range(30)]
RUN = Run(SHOTS, WRITES, effects=30, looks=[Look(1.0, 5, 2, 1, 3.0, 0.5)], span=(10.0, 20.0))


def test_figures_are_of_the_requests_that_were_due_while_it_happened() -> None:
    found = summary(RUN)
    assert found["requests"] == 10
    assert found["http"]["p50"] == pytest.approx(0.25)
    assert found["accepted_to_visible"]["p99"] == pytest.approx(0.5)
    assert (found["lost"], found["doubled"], found["errors"]) == (0, 0, 0)
    assert (found["connections"], found["lock_waits"], found["time_lag_gauge"]) == (5, 1, 0.5)


def test_a_write_that_was_answered_and_is_not_there_is_lost() -> None:
    assert summary(attrs.evolve(RUN, writes=WRITES[:-1], effects=29))["lost"] == 1


def test_a_row_that_is_there_twice_is_doubled() -> None:
    run = attrs.evolve(RUN, writes=[*WRITES, WRITES[3]], effects=31)
    assert summary(run)["doubled"] == 1


def test_an_effect_that_was_added_twice_is_doubled() -> None:
    assert summary(attrs.evolve(RUN, effects=31))["doubled"] == 1


def test_a_refused_request_may_have_been_written_and_is_then_not_lost() -> None:
    refused = [attrs.evolve(SHOTS[12], status=NO_ANSWER), attrs.evolve(SHOTS[13], status=503)]
    run = attrs.evolve(RUN, shots=[*SHOTS[:12], *refused, *SHOTS[14:]])
    found = summary(run)
    assert found["errors"] == pytest.approx(0.2)
    assert (found["refused_yet_written"], found["lost"]) == (2, 0)


def test_what_writes_in_its_request_has_no_lag() -> None:
    direct = [attrs.evolve(write, queued=None) for write in WRITES]
    found = summary(attrs.evolve(RUN, writes=direct))
    assert found["accepted_to_visible"] is None
    assert (found["message_lag"], found["time_lag"], found["caught_up"]) == (0, 0, None)


def test_time_lag_is_the_age_of_the_oldest_that_waits_and_not_of_the_next_one_to_be_done() -> None:
    writes = [Write(0, 0.0, 9.0), Write(1, 5.0, 6.0), Write(2, 7.0, 8.0)]
    assert lag(writes, [0.0, 4.0, 5.5, 6.5, 7.5, 8.5, 9.5]) == [
        (1, 0.0), (1, 4.0), (2, 5.5), (1, 6.5), (2, 7.5), (1, 8.5), (0, 0.0),
    ]  # fmt: skip


def test_a_record_that_is_not_queued_yet_is_no_lag() -> None:
    assert lag([Write(0, 5.0, 6.0)], [1.0, 5.0]) == [(0, 0.0), (1, 0.0)]


def test_under_way_are_the_requests_that_are_due_and_not_answered() -> None:
    shots = [Shot(0, 0.0, 4.0, 200), Shot(1, 1.0, 2.0, 200)]
    assert in_flight(shots, [0.5, 1.5, 2.5, 4.5]) == [1, 2, 1, 0]


def test_the_hot_tenant_has_four_of_five_requests_and_only_meanwhile() -> None:
    hot = SCENARIOS["hot-tenant"]
    apps = [hot.app(number, 10, 20) for number in range(600)]
    first, after = int(10 * BEFORE), int(10 * (BEFORE + 20))
    assert HOT not in apps[:first]
    assert HOT not in apps[after:]
    assert apps[first:after].count(HOT) == 160


def test_both_commands_read_the_configuration(tmp_path: Path) -> None:
    servers = SimpleNamespace(bootstrap="127.0.0.1:9092")
    world: Any = SimpleNamespace(name="w", servers=servers, program_dsn="postgresql://localhost/w")
    file = tmp_path / "pipeline.toml"
    file.write_text(tomli_w.dumps(configuration(world, 8080, "127.0.0.1:9100")))
    config = load(file)
    assert config.ingest is not None
    assert config.ingest.receipts


def test_the_page_has_a_place_for_every_table_and_keeps_its_own_words() -> None:
    way = rounded({**summary(RUN), "series": over_time(RUN)})
    ways = dict.fromkeys(WAYS, way)
    scenario = {"rate": 1, "seconds": 10, "ways": ways}
    document = {"scenarios": dict.fromkeys(SCENARIOS, scenario), "method": METHOD}
    page = report.PAGE.read_text()
    filled = page_of.filled(page, report.blocks(document))
    rows = [line for line in filled.splitlines() if line.startswith(f"| {ASYNC} |")]
    assert len(rows) == len(SCENARIOS)
    assert page_of.filled(filled, report.blocks(document)) == filled
    assert [line for line in page.splitlines() if not line.startswith("|")] == [
        line for line in filled.splitlines() if not line.startswith("|")
    ]


def test_the_pages_tables_are_those_of_the_kept_figures() -> None:
    page = report.PAGE.read_text()
    document = orjson.loads(report.RESULTS.read_bytes())
    assert page_of.filled(page, report.blocks(document)) == page


METHOD = {
    "on a schedule": {"requests": 10, "p90": 0.5, "p99": 0.95, "p999": 1.0},
    "one after another": {"requests": 1000, "p90": 0.001, "p99": 0.001, "p999": 0.001},
}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.0 ms"), (0.0123, "12 ms"), (0.4567, "457 ms"), (12.345, "12.3 s")],
)
def test_times_are_written_with_as_many_digits_as_mean_something(
    value: float | None, text: str
) -> None:
    assert page_of.seconds(value) == text
