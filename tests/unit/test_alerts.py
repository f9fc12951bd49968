"""Alerts, board and runbook agree with each other and with the metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.observe.board import BOARD, board
from pipeline.observe.metrics import definitions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "operations" / "runbook.md"

GROUPS = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}
CASES = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]

PROMETHEUS_OWN = {"job", "instance", "le", "alertname", "alertstate"}
METRICS = {definition.name: definition for _, definition in definitions()}

SERIES = {
    name + suffix: set(definition.labels)
    for name, definition in METRICS.items()
    for suffix in (("_bucket", "_sum", "_count") if definition.kind == "histogram" else ("",))
}
"""What a scrape shows of each metric, with its labels."""

ENTRIES = dict(re.findall(r"^## (Pipeline\w+)\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.M | re.S))


def panels() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of each line of the board."""
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def expressions() -> list[str]:
    return [rule["expr"] for rule in RULES] + [expression for _, expression, _ in panels()]


def series_of(expression: str) -> set[str]:
    """The names of the pipeline's own series; recorded ones have colons."""
    return set(re.findall(r"\b(?:job:)?pipeline_\w+(?::\w+)?\b", expression))


def labels_in(expression: str) -> set[str]:
    """Each label that is selected, grouped or joined by."""
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    lists = re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression)
    return {*selected, *(name.strip() for each in lists for name in each.split(","))}


def promtool(*arguments: str | Path) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules_and_the_example_of_a_configuration() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", FOLDER / "rules.yml")
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", FOLDER / "rules_test.yml")


def test_each_alert_is_seen_to_fire_and_to_be_silent_by_the_tests_of_the_rules() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for case in CASES:
        for expected in case["alert_rule_test"]:
            (fires if expected["exp_alerts"] else silent).add(expected["alertname"])
    assert fires == silent == set(ALERTS)


@pytest.mark.parametrize("expression", expressions())
def test_what_an_expression_names_is_there(expression: str) -> None:
    names = series_of(expression)
    known: set[str] = set()
    for name in names:
        assert name in SERIES or name in RECORDED, f"no metric is named {name}"
        known |= SERIES.get(name, set())
    assert names or "up{" in expression
    assert labels_in(expression) - PROMETHEUS_OWN <= known


def test_series_of_the_tests_of_the_rules_are_those_of_an_instance() -> None:
    for case in CASES:
        for each in case["input_series"]:
            name, _, rest = each["series"].partition("{")
            labels = set(re.findall(r"(\w+)=", rest))
            assert name == "up" or labels == SERIES[name] | {"job", "instance"}, each["series"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_only_what_its_expression_leaves(name: str) -> None:
    """A label that was aggregated away would be an empty string in the summary."""
    rule = ALERTS[name]
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert rule["labels"]["severity"] in ("page", "ticket")
    if "by (" in rule["expr"]:
        first = re.search(r"\bby \(([^)]*)\)", rule["expr"])
        assert first
        assert told <= {label.strip() for label in first[1].split(",")}
    else:
        assert told <= {"job", "instance"}


def test_each_alert_has_an_entry_in_the_runbook_and_each_entry_an_alert() -> None:
    assert list(ENTRIES) == list(dict.fromkeys(ENTRIES))
    assert set(ENTRIES) == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/operations/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_what_is_seen_what_it_means_what_to_do_and_when_to_wake_someone(
    name: str,
) -> None:
    parts = re.findall(r"^- \*\*([^*]+)\*\*:", ENTRIES[name], flags=re.MULTILINE)
    assert parts == ["Symptom", "Meaning", "Do", "Wake someone", "Exercised by"]


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_names_tests_that_exercise_it_or_says_that_none_does(name: str) -> None:
    told = ENTRIES[name].partition("- **Exercised by**: ")[2]
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", told)
    assert tests or told.startswith("not exercised: ")
    for file, function in tests:
        assert f"def {function}(" in (ROOT / file).read_text(), f"{file} has no {function}"


def test_links_within_the_documents_of_an_entry_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK.read_text()):
        file, _, anchor = target.partition("#")
        text = (RUNBOOK.parent / file).read_text() if file else RUNBOOK.read_text()
        headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
        assert not anchor or anchor in slugs, target


def test_the_board_is_what_the_code_says() -> None:
    assert json.loads(BOARD.read_text(encoding="utf-8")) == board(), (
        "deploy/grafana/pipeline.json is stale: run python -m pipeline.observe.board"
    )


def test_the_board_shows_every_metric() -> None:
    shown = {name for _, expression, _ in panels() for name in series_of(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert set(METRICS) - families == {"pipeline_partition_paused"}, "the alerts alone use that one"


def test_a_legend_names_labels_that_its_expression_leaves() -> None:
    for title, expression, legend in panels():
        told = set(re.findall(r"{{(\w+)}}", legend))
        left = re.search(r"\bby \(([^)]*)\)", expression)
        assert left
        assert told <= {label.strip() for label in left[1].split(",")}, title


def test_panels_neither_overlap_nor_leave_the_board() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_prometheus_takes_every_expression_of_the_board(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"panel:{number}",
            "expr": expression.replace("$job", ".*").replace("$__rate_interval", "1m"),
        }
        for number, (_, expression, _) in enumerate(panels())
    ]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)
