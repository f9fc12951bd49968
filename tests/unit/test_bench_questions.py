"""What the benches say about what they measured: goals, gates, ratios, files of results, exit codes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from bench import all as everything
from bench import (
    channels,
    compare,
    deduplication,
    delivery,
    growth,
    handlers,
    latency,
    metrics,
    throughput,
)
from bench.harness import comparison_report, experiment, growth_report
from bench.harness.drain import Commands, Drained, DrainFailed
from bench.harness.experiment import Experiment, Variant
from bench.harness.figures import Spread
from bench.harness.goals import at_least, at_most
from bench.harness.question import Answer, answer, bound_of, gated, parser
from bench.harness.report import HEADER, line, medians
from bench.harness.topics import Load, Topic
from bench.subjects.peers.catalogue import HAND_LOOPS, JAVA, PEERS, TWO, Peer, built
from bench.subjects.peers.environment import BuildFailed

RUN = Drained("pipeline", 1000, 0.01, 100_000.0, 5.0, 140.0, 4.0, 0.5, 2, 0)


def run_of(name: str, rate: float, **figures: Any) -> Drained:
    return attrs.evolve(RUN, program=name, rate=rate, **figures)


def commands(_job: object) -> list[list[str]]:
    return [["true"]]


# Goals and gates


def test_a_goal_is_met_at_its_bound() -> None:
    assert at_least("ratio", 0.75, 0.75).met
    assert not at_least("ratio", 0.7499, 0.75).met
    assert at_most("share", 0.02, 0.02).met
    assert not at_most("share", 0.0201, 0.02).met
    assert "MISSED" in str(at_most("share", 0.03, 0.02))


def options_of(*arguments: str, bound: float | None = None) -> argparse.Namespace:
    return parser("throughput", "About.", "--gate", bound=bound).parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "is_gated", "bound"),
    [
        ([], False, 0.75),
        (["--gate"], True, 0.75),
        (["--gate", "0.9"], True, 0.9),
        (["--gate", "0"], True, 0.0),
    ],
)
def test_a_gate_is_the_stated_bound_or_the_number_given(
    arguments: Sequence[str], is_gated: bool, bound: float
) -> None:
    options = options_of(*arguments, bound=0.75)
    assert gated(options) is is_gated
    assert bound_of(options) == bound


def test_goals_with_several_bounds_take_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert gated(options_of("--gate"))
    assert not gated(options_of())
    with pytest.raises(SystemExit):
        options_of("--gate", "0.9")
    assert "0.9" in capsys.readouterr().err


MISSED, MET = at_least("ratio", 0.5, 0.75), at_least("ratio", 0.8, 0.75)


@pytest.mark.parametrize(
    ("found", "arguments", "code"),
    [
        (Answer({}, [MET]), ["--gate"], 0),
        (Answer({}, [MISSED]), [], 0),
        (Answer({}, [MISSED]), ["--gate"], 1),
        (Answer({}, [MET, MISSED]), ["--gate"], 1),
        (Answer({}, [MET], wrong=1), [], 1),
        (Answer({}, [MET], failures={"loop": "ended"}), [], 1),
        (Answer({}, [MET], skipped={"loop": "no cargo"}), ["--gate"], 0),
    ],
)
def test_what_makes_a_question_fail(found: Answer, arguments: Sequence[str], code: int) -> None:
    assert answer(options_of(*arguments), lambda _: found) == code


def test_a_program_that_failed_makes_the_question_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(_options: argparse.Namespace) -> Answer:
        raise DrainFailed("pipeline ended: no such topic")

    file = tmp_path / "throughput.json"
    assert answer(options_of(f"--json={file}"), measure) == 1
    assert "no such topic" in capsys.readouterr().err
    assert not file.exists()


def test_a_file_of_results_has_head_figures_and_goals(tmp_path: Path) -> None:
    file = tmp_path / "results" / "throughput.json"
    reported: list[Path] = []
    found = Answer({"ratios": {"loop": 0.5}}, [MISSED])
    answer(options_of(f"--json={file}", bound=0.75), lambda _: found, reported.append)
    document = json.loads(file.read_text())
    assert reported == [file]
    assert document["question"] == "throughput"
    assert {"date", "machine", "versions", "options"} <= document.keys()
    assert document["options"] == {}, "neither the file nor the gate"
    assert document["ratios"] == {"loop": 0.5}
    assert document["goals"] == [
        {"name": "ratio", "measured": 0.5, "bound": 0.75, "at_least": True, "met": False}
    ]


# Rounds


def test_programs_take_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FakeTopics:
        servers = None

        def of(self, load: Load) -> Topic:
            return Topic("topic", load.records, {})

    def drain(_servers: object, topic: Topic, name: str, _commands: Commands, **_: Any) -> Drained:
        return run_of(name, topic.records, wrong=1)

    monkeypatch.setattr(experiment, "drain", drain)
    measured = Experiment([Variant(name, commands, Load(n)) for n, name in enumerate("ab", 1)])
    monkeypatch.setattr(experiment, "line", lambda run: run.program)
    measured.measure(FakeTopics(), 3)  # type: ignore[arg-type]
    assert capsys.readouterr().out.split()[-6:] == [*"ababab"]
    assert measured.median("rate") == {"a": 1, "b": 2}
    assert measured.wrong == 6
    assert len(measured.as_json()) == 6


def test_medians_leave_out_what_never_ran() -> None:
    measured = Experiment([Variant(name, commands, Load(1)) for name in "ab"])
    measured.runs["a"] += [run_of("a", rate) for rate in (1, 9, 2)]
    assert measured.median("rate") == {"a": 2}


# Each question's goals


def test_the_gate_of_the_throughput_is_on_the_fast_loop() -> None:
    rates = {"bare loop": 50.0, "bare loop, fast": 100.0, "pipeline": 80.0}
    assert throughput.ratios_of(rates) == {"bare loop": 1.6, "bare loop, fast": 0.8}
    assert throughput.goal(rates, 0.8).met
    assert not throughput.goal(rates, 0.81).met


def test_what_the_guarantee_costs() -> None:
    rates = {"exactly-once": 90.0, "at-least-once": 100.0}
    cpu = {"exactly-once": 8.9, "at-least-once": 8.3}
    costs = delivery.costs_of(rates, cpu)
    assert costs == {"throughput": pytest.approx(0.1), "postgres_cpu": pytest.approx(0.6)}


def test_what_idempotency_keys_cost() -> None:
    medians = {
        "rate": {"without keys": 100.0, "with keys": 80.0},
        "cpu": {"without keys": 5.0, "with keys": 7.0},
        "postgres_cpu": {"without keys": 8.0, "with keys": 18.0},
    }
    assert deduplication.costs_of(medians) == {"ratio": 0.8, "cpu": 2.0, "postgres_cpu": 10.0}


def test_what_metrics_cost() -> None:
    costs = metrics.costs_of({"not kept": 100.0, "kept": 99.0, "scraped": 97.0})
    assert costs == {"kept": pytest.approx(0.01), "scraped": pytest.approx(0.03)}


def test_handlers_are_compared_with_what_was_measured() -> None:
    rates = {
        "handler, upsert": 90.0,
        "Parallel Consumer, batch 1, 16 in flight": 8.0,
        "Parallel Consumer, batch 1, 32 in flight": 9.0,
        "handler, 10 ms": 1440.0,
    }
    measured = {goal.name: goal.measured for goal in handlers.goals(rates)}
    assert measured == {
        "one process ÷ Parallel Consumer": pytest.approx(10.0),
        "10 ms per record ÷ connections ÷ waiting": pytest.approx(0.9),
    }


def test_the_peers_of_the_handlers_are_in_the_catalogue() -> None:
    assert [peer.name for peer in handlers.peers()] == [
        "Parallel Consumer, batch 1, 16 in flight",
        "Parallel Consumer, batch 1, 32 in flight",
        handlers.PYRALLEL,
    ]


def test_channels_are_judged_by_their_highest_cost() -> None:
    goals = channels.goals({1: {1_000: 0.5, 100_000: 1.1}, 2: {1_000: 2.9, 100_000: 2.0}})
    assert [(goal.measured, goal.met) for goal in goals] == [(1.1, False), (2.9, True)]


def test_latency_has_a_goal_per_percentile() -> None:
    spread = Spread.of(float(n) for n in range(1, 101))
    measured = latency.Measured(500.0, 500.0, 500.0, 0.1, 1.0, spread, spread)
    goals = latency.goals("light", measured, {"p50": 50.0, "p99": 98.0})
    assert [(goal.name, goal.met) for goal in goals] == [
        ("light: p50, ms", True), ("light: p99, ms", False),
    ]  # fmt: skip


def test_growth_has_a_variant_per_point_and_holds_the_rest() -> None:
    variants = [
        growth.variant(axis, value, 10, 1) for axis, of in growth.AXES.items() for value in of
    ]
    assert len({variant.name for variant in variants}) == len(variants)
    many = growth.variant("shards", 8, 10, 1)
    assert (many.shards, many.load) == (8, Load(10, 100_000, 1, 16, 200))
    assert growth.variant("partitions", 256, 10, 1).load.partitions == 256


def test_growth_says_how_far_an_axis_is_from_its_fit() -> None:
    runs = {value: [run_of("", 1.0, cpu=cpu)] for value, cpu in ((1, 4.0), (4, 6.0))}
    fit = growth.fitted("partitions", runs, 1)
    figures = growth.axis_figures("partitions", runs, fit)
    assert fit.deviation == pytest.approx(0.2)
    assert "partitions" not in figures["held"]
    shown = growth_report.table({"partitions": figures})
    assert "within 20% of 5.0 µs" in shown
    assert "| 4 | 1 | 6.0 |" in shown


def compared(**rates: float) -> Experiment:
    names = {"pipeline": "pipeline", "loop": "aiokafka loop", "java": PEERS[-2].name}
    measured = Experiment([Variant(names[name], commands, Load(1)) for name in rates])
    for name, rate in rates.items():
        measured.runs[names[name]].append(run_of(names[name], rate))
    return measured


def test_the_comparison_has_the_goals_that_can_be_measured() -> None:
    assert compare.goals(PEERS, compared(loop=1.0)) == []
    goals = compare.goals(PEERS, compared(pipeline=120.0, loop=100.0))
    assert [(goal.measured, goal.met) for goal in goals] == [
        (1.2, True),
        (5.0, True),
        (140.0, True),
    ]


def test_every_family_that_a_goal_names_has_a_peer() -> None:
    assert {*HAND_LOOPS, *JAVA} <= {peer.family for peer in PEERS}
    assert len({peer.name for peer in (*PEERS, TWO)}) == len(PEERS) + 1


def test_a_peer_that_cannot_be_built_is_skipped_with_its_reason() -> None:
    def fail() -> None:
        raise BuildFailed("no cargo")

    good, bad = Peer("good", "family", commands), Peer("bad", "family", commands, fail)
    assert built([good, bad]) == ([good], {"bad": "no cargo"})


# Reports


def test_a_line_shows_wrong_rows() -> None:
    assert len(line(RUN)) == len(HEADER)
    assert line(attrs.evolve(RUN, wrong=3)).endswith("3 ROWS WRONG")
    assert "100,000" in medians({"pipeline": 100_000.0}, {"pipeline": 5.0}, {"pipeline": "is it"})


def test_the_comparison_as_a_table() -> None:
    runs = [
        attrs.asdict(run_of(name, rate)) for name, rate in (("pipeline", 150.0), ("loop", 100.0))
    ]
    peers = [
        {"name": name, "family": name, "share": 1.0, "order": "key", "exactly_once": True}
        for name in ("pipeline", "loop")
    ]
    document = {
        "date": "2026-01-01", "options": {"records": 10, "keys": 2, "rounds": 1}, "partitions": 6,
        "machine": {"processor": "x", "cores": 2, "memory_gb": 1, "load": 0.5}, "versions": {},
        "peers": peers, "runs": runs, "failures": {"java": "ended\nlog"}, "skipped": {"rust": "none"},
    }  # fmt: skip
    shown = comparison_report.table(document)
    assert "| **loop** | 100 (100–100) |" in shown
    assert shown.index("**pipeline**") < shown.index("**loop**"), "the fastest first"
    assert "| 1.50 |" in shown
    assert "- java: ended\n" in shown
    assert "- rust: none\n" in shown


# All of them


def test_every_question_can_be_asked_at_once(tmp_path: Path) -> None:
    for name in everything.QUESTIONS:
        command = everything.command(name, tmp_path)
        assert command[1:3] == ["-m", f"bench.{name}"]
        assert command[-1] == f"--json={tmp_path / name}.json"


@pytest.mark.parametrize("name", everything.QUESTIONS)
def test_every_question_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = __import__(f"bench.{name}", fromlist=["main"])
    with pytest.raises(SystemExit, match="0"):
        module.main(["--help"])
    shown = capsys.readouterr().out
    assert f"example: python -m bench.{name} " in shown
    assert "--json FILE" in shown


@pytest.mark.parametrize("name", everything.QUESTIONS)
def test_the_sizes_of_all_are_options_of_the_question(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = __import__(f"bench.{name}", fromlist=["main"])
    monkeypatch.setattr(module, "answer", lambda options, *_: options)
    options = module.main([*everything.QUESTIONS[name], "--json=file.json"])
    assert options.json == Path("file.json")
