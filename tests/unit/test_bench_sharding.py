"""What the benches of the page on who waits for whom compute and write, from figures that are made up."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from bench import contention, hot_key, incident
from bench.harness import contended_report, incident_report
from bench.harness.contended import Contended, compared, line
from bench.harness.drain import Job
from bench.harness.incident_figures import Look, figures
from bench.harness.paced import Values
from bench.harness.page import filled, share, table
from bench.harness.sampling import Sessions, within
from bench.subjects.programs import PIPELINE
from pipeline.config.load import load as configured

MACHINE = {"cores": 2, "processor": "x", "load": 0.5}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("localhost:9092", "topic", "group", "postgresql://localhost/db", tmp_path)


def config_of(job: Job) -> dict[str, Any]:
    """The configuration that a program was given, which must be a good one."""
    file = job.directory / "pipeline.toml"
    configured(file)
    return tomllib.loads(file.read_text())


# The incident


@pytest.mark.parametrize("kind", incident.KINDS)
@pytest.mark.parametrize("way", incident.WAYS)
def test_the_ways_differ_in_whether_a_tenant_may_get_a_lane(job: Job, kind: str, way: str) -> None:
    incident.commands(job, incident.KINDS[kind], way, "127.0.0.1:9999")
    config = config_of(job)
    assert config["records"] == {"key": ["id", "app_id"], "tenant": "app_id"}
    limits = {"max_buffered_per_tenant": incident.NEVER} if way == incident.CAP else {}
    assert config["limits"] == limits


def test_records_of_a_paced_producer_may_all_be_of_one_app() -> None:
    apps = [orjson.loads(Values("app-hot").make(n, 1e9, 1e9))["app_id"] for n in range(3)]
    assert apps == ["app-hot"] * 3
    assert orjson.loads(Values().make(65, 1e9, 1e9))["app_id"] == "app-1"


def look(cpu: float, opened: float | None = None) -> Look:
    return Look(cpu, cpu / 2, busy=2.0, sessions=Sessions(1, 0), in_lanes=7.0, opened=opened)


def spans_of(slow: tuple[float, float], age: float) -> list[tuple[float, float]]:
    """Ten records a second from 100 to 140: a tenth of a second each, but for those due meanwhile."""
    dues = [100 + n / 10 for n in range(400)]
    return [(due, due + (age if slow[0] <= due < slow[1] else 0.1)) for due in dues]


LOOKS = [(100.0 + n / 2, look(n * 0.25, opened=122.0 if n >= 44 else None)) for n in range(2 * 40)]


def test_figures_are_of_the_time_in_which_the_hot_tenant_produces() -> None:
    found = figures(spans_of((105, 106), 30.0), LOOKS, 100.0, (110.0, 130.0))
    assert found["age"] == pytest.approx({"p50": 0.1, "p99": 0.1, "highest": 0.1})
    assert found["time_lag"]["highest"] > 10.0, "what was due before still waits"
    assert (found["cpu"], found["postgres_cpu"]) == (pytest.approx(0.5), pytest.approx(0.25))
    assert (found["busy"], found["hot"]) == (2.0, [10.0, 30.0])
    assert found["series"]["time_lag"][0] == 0.0


def test_what_came_before_there_was_a_lane_is_told_apart() -> None:
    found = figures(spans_of((115, 116), 5.0), LOOKS, 100.0, (110.0, 130.0))
    assert found["opened"] == pytest.approx(12.0)
    assert found["time_lag_until_opened"]["highest"] > 4.0
    assert found["time_lag_since_opened"]["highest"] <= 0.1
    assert found["age"]["highest"] == pytest.approx(5.0)


def test_without_a_lane_there_is_no_before_and_after() -> None:
    looks = [(at, attrs.evolve(seen, opened=None)) for at, seen in LOOKS]
    found = figures(spans_of((115, 116), 5.0), looks, 100.0, (110.0, 130.0))
    assert found["opened"] is None
    assert found["time_lag_since_opened"] is None


def run_of(p99: float, opened: float | None = None) -> dict[str, Any]:
    named = {"p50": p99 / 2, "p99": p99, "highest": p99 * 2}
    since = None if opened is None else named
    return {
        "age": named, "time_lag": named, "opened": opened, "time_lag_until_opened": since,
        "time_lag_since_opened": since, "cpu": 0.5, "postgres_cpu": 0.1, "busy": 1.5, "wrong": 0,
        "series": {},
    }  # fmt: skip


def kinds_of(calm: float, cap: float, lanes: float) -> dict[str, dict[str, Any]]:
    return {"handler": {"calm": run_of(calm), "no lanes": run_of(cap), "lanes": run_of(lanes, 3.0)}}


@pytest.mark.parametrize(
    ("calm", "cap", "lanes", "met"),
    [
        (1.0, 10.0, 1.5, [True, True, True]),
        (1.0, 10.0, 1.51, [False, False, True]),
        (0.01, 9.0, 0.06, [True, True, True]),
        (0.01, 0.09, 0.061, [False, False, False]),
    ],
)
def test_the_others_must_hardly_notice_and_without_lanes_they_must(
    calm: float, cap: float, lanes: float, met: list[bool]
) -> None:
    assert [goal.met for goal in incident.goals(kinds_of(calm, cap, lanes))] == met


def test_a_run_in_which_no_lane_was_opened_has_missed_its_goals() -> None:
    kinds = kinds_of(1.0, 10.0, 1.0)
    kinds["handler"]["lanes"] = run_of(1.0)
    assert [goal.met for goal in incident.goals(kinds)] == [False]
    assert "handler" not in incident_report.table_of_lanes(kinds)


def test_the_incident_as_tables() -> None:
    kinds = kinds_of(0.01, 12.0, 0.06)
    shown = incident_report.table(kinds)
    assert "| handler | no lanes | 6.0 s | 12.0 s | 24.0 s | 6.0 s | 12.0 s | 50% | 10% |" in shown
    assert (
        "| handler | 3.0 s | 30 ms | 120 ms | 30 ms | 60 ms | 120 ms |"
        in incident_report.table_of_lanes(kinds)
    )
    assert "wrong 0" in incident_report.line("handler", "lanes", run_of(1.0))


# A hot key, and two keys a record


def documents(records: Any) -> list[Any]:
    return [orjson.loads(value) for _, value in records]


def test_every_second_record_is_of_the_hot_key() -> None:
    found = documents(hot_key.records(1000))
    assert sum(document["id"] == 0 for document in found) == 500
    assert found == documents(hot_key.records(1000)), "the same each time"


def test_a_key_has_records_of_several_accounts() -> None:
    """Otherwise the account would be the only key that matters."""
    found = documents(contention.records(50_000))
    of_key: dict[int, set[str]] = {}
    for document in found:
        of_key.setdefault(document["id"], set()).add(document["app_id"])
    assert max(map(len, of_key.values())) > 1
    assert len(Counter(document["app_id"] for document in found)) == contention.ACCOUNTS


@pytest.mark.parametrize("name", contention.WAYS)
def test_the_ways_differ_in_their_keys_and_their_handlers(job: Job, name: str) -> None:
    contention.WAYS[name](job)
    config = config_of(job)
    assert config["records"]["key"] == ("id" if name.startswith("one") else ["id", "app_id"])
    assert config["sink"]["handler"].endswith("by_account") is name.endswith("sorted")


def test_one_transaction_per_record_is_a_batch_of_one(job: Job) -> None:
    commands, part = hot_key.WAYS[hot_key.ONE_BY_ONE]
    commands(job)
    assert config_of(job)["limits"] == {"max_batch": 1}
    assert part == hot_key.FEWER


def test_what_is_missing_doubled_or_stale_is_told_apart() -> None:
    expected = {1: (2, 10), 2: (1, 11), 3: (1, 12)}
    assert compared(expected, expected) == (0, 0)
    assert compared(expected, {1: (2, 9), 2: (1, 11), 3: (1, 12)}) == (0, 1)
    assert compared(expected, {1: (3, 10), 2: (1, 11), 4: (1, 1)}) == (3, 0)


RUN = Contended(
    records=100, seconds=2.0, rate=50.0, cpu=5.0, rows=25, deadlocks=0, waiting=0.0, waiting_most=0,
    busy=1.0, missing=0, stale=0,
)  # fmt: skip


def test_a_hot_key_must_be_folded_and_wait_for_no_lock() -> None:
    def met(**changes: Any) -> list[bool]:
        slow = attrs.evolve(RUN, rate=5.0)
        runs = {hot_key.ONE_BY_ONE: slow, hot_key.WORKERS: slow}
        ours = attrs.evolve(RUN, **changes)
        return [goal.met for goal in hot_key.goals({PIPELINE: ours, **runs})]

    assert met() == [True] * 4
    assert met(rate=49.0) == [False, False, True, True]
    assert met(rows=76) == [True, True, False, True]
    assert met(waiting_most=1) == [True, True, True, False]


def test_two_keys_must_wait_for_nothing_in_postgres() -> None:
    def met(**runs: Contended) -> list[bool]:
        names = {"one": contention.ONE, "two": contention.TWO, "two_sorted": contention.TWO_SORTED}
        all_runs = dict.fromkeys(contention.WAYS, RUN) | {names[n]: run for n, run in runs.items()}
        return [goal.met for goal in contention.goals(all_runs)]

    one = attrs.evolve(RUN, deadlocks=5)
    assert met(one=one) == [True] * 4
    assert met() == [False, True, True, True], "the other way must show what is avoided"
    assert met(one=one, two=one) == [True, False, True, True]
    assert met(one=one, two_sorted=attrs.evolve(RUN, waiting_most=1)) == [True, True, False, True]
    assert met(one=one, two=attrs.evolve(RUN, rate=49.0)) == [True, True, True, False]


def test_runs_as_lines_and_tables() -> None:
    runs = {"pipeline": attrs.asdict(RUN)}
    assert "| pipeline | 50 | 0.25 | 0.0 | 0 | 0 |" in contended_report.table(runs, rows=True)
    assert "| pipeline | 50 | 0 | 0.0 | 0 | 0 |" in contended_report.table(runs, rows=False)
    assert "missing 0" in line("pipeline", RUN)


# The page


@pytest.mark.parametrize("name", ["incident", "hot_key", "contention"])
def test_the_page_has_a_place_for_each_bench(name: str) -> None:
    page = contended_report.PAGE.read_text()
    assert "what is put there" in filled(page, {name: "what is put there"})


@pytest.mark.parametrize("name", ["incident", "hot_key", "contention"])
def test_only_the_kept_results_fill_the_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n")
    kept, other = tmp_path / f"{name}.json", tmp_path / "other.json"
    head = {"date": "2026-01-02T03:04:05+00:00", "machine": MACHINE}
    runs: Mapping[str, Any] = {"pipeline": attrs.asdict(RUN)}
    text = json.dumps({**head, "runs": runs, "kinds": kinds_of(0.01, 12.0, 0.06)})
    for file in (kept, other):
        file.write_text(text)
    for module in (contended_report, incident_report):
        monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(contended_report, "results", lambda _: kept)
    monkeypatch.setattr(incident_report, "RESULTS", kept)

    def write(file: Path) -> None:
        if name == "incident":
            incident_report.write(file)
        else:
            contended_report.write(name, file, rows=True)

    before = page.read_text()
    write(other)
    assert page.read_text() == before
    write(kept)
    assert "Measured on 2026-01-02: 2 cores (x)" in page.read_text()


def test_tables_align_numbers_to_the_right() -> None:
    assert table(["", "n"], [["a", 1]]) == "|  | n |\n| --- | ---: |\n| a | 1 |"
    assert [share(value) for value in (0.0, 0.012, 0.5)] == ["0%", "1.2%", "50%"]


def test_what_was_seen_in_a_span_of_time() -> None:
    assert within([(1.0, "a"), (2.0, "b"), (3.0, "c")], 2.0, 3.0) == ["b"]
