"""What every question shares: its options, its file of results, its exit code.

``--gate`` means the same everywhere: exit 1 if a goal is missed. A question whose goals have one common
bound also takes ``--gate NUMBER``: that bound in place of the stated one. Without ``--gate`` goals are
measured, printed and written, and a missed one does not change the exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from bench.harness.drain import DrainFailed
from bench.harness.goals import Goal, all_met
from bench.harness.machine import machine, versions
from pipeline.local import LocalError


@attrs.frozen
class Answer:
    """What a question measured.

    Attributes:
        figures: for the file of results.
        goals: the goals that were measured.
        wrong: rows that differ from the model, in all runs; 0 in any result that counts.
        failures: why programs failed, by their names.
        skipped: why programs were left out, by their names.
    """

    figures: Mapping[str, Any]
    goals: Sequence[Goal] = ()
    wrong: int = 0
    failures: Mapping[str, str] = attrs.Factory(dict)
    skipped: Mapping[str, str] = attrs.Factory(dict)


def parser(
    name: str, about: str | None, example: str, *, goals: bool = True, bound: float | None = None
) -> argparse.ArgumentParser:
    """Make the parser of a question, with the options that all questions share.

    Args:
        name: of the question's module: ``throughput``.
        about: its documentation.
        example: a command's options, shown at the end of ``--help``.
        goals: whether the question has goals.
        bound: the stated bound of its goals, if they have a common one.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=about,
        epilog=f"example: python -m bench.{name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(question=name, bound=bound)
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    if bound is not None:
        made.add_argument(
            "--gate", type=float, nargs="?", const=bound, metavar="NUMBER",
            help=f"exit 1 if a goal is missed; NUMBER: its bound (default: {bound:g})",
        )  # fmt: skip
    elif goals:
        made.add_argument("--gate", action="store_true", help="exit 1 if a goal is missed")
    return made


def add_load(
    made: argparse.ArgumentParser, records: int, rounds: int, *, keys: int | None = 100_000
) -> None:
    """Add ``--records``, ``--rounds``, ``--seed`` and ``--keys`` with these defaults.

    Args:
        made: the parser.
        records: the default per run.
        rounds: the default.
        keys: the default; None: the question chooses the keys itself.
    """
    made.add_argument(
        "--records", type=int, default=records, help=f"per run (default: {records:,})"
    )
    if keys is not None:
        made.add_argument("--keys", type=int, default=keys, help=f"distinct (default: {keys:,})")
    made.add_argument(
        "--rounds", type=int, default=rounds, help=f"of all programs in turn (default: {rounds})"
    )
    made.add_argument("--seed", type=int, default=1, help="of the records (default: 1)")


def bound_of(options: argparse.Namespace) -> float:
    """Return the bound of the goals: the number given to ``--gate``, or the stated one."""
    return float(options.bound if options.gate is None else options.gate)


def answer(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Answer],
    report: Callable[[Path], None] | None = None,
) -> int:
    """Measure, print the goals and write the file of results.

    Args:
        options: of the question's parser.
        measure: measures, and prints what it finds.
        report: makes tables and pictures from the file of results, if it is written.

    Returns:
        The exit code: 1 if a program failed, a row is wrong, or a goal is missed under ``--gate``.
    """
    try:
        found = measure(options)
    except (DrainFailed, LocalError) as problem:
        print(f"FAILED: {problem}", file=sys.stderr)
        return 1
    for goal in found.goals:
        print(goal)
    if options.json:
        write(options, found)
        if report is not None:
            report(options.json)
    return exit_code(found, gated=gated(options))


def gated(options: argparse.Namespace) -> bool:
    """Whether ``--gate`` was given, with or without a number (which may be 0)."""
    gate = getattr(options, "gate", None)
    return gate is not None and gate is not False


def exit_code(found: Answer, *, gated: bool) -> int:
    """Return 1 for failures, wrong rows or missed goals under a gate; say why."""
    problems = [f"{name}: {problem}" for name, problem in found.failures.items()]
    if found.wrong:
        problems.append(f"{found.wrong} rows differ from what was produced")
    if gated and not all_met(found.goals):
        problems.append("; ".join(str(goal) for goal in found.goals if not goal.met))
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return int(bool(problems))


def write(options: argparse.Namespace, found: Answer) -> None:
    """Write a file of results, and say so."""
    options.json.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(options, found), indent=2, ensure_ascii=False)
    options.json.write_text(text + "\n")
    print(f"wrote {options.json}", flush=True)


def document(options: argparse.Namespace, found: Answer) -> dict[str, Any]:
    """Return what a file of results holds: the head, the figures, the goals."""
    left_out = {"json", "gate", "bound", "question"}
    given = {name: value for name, value in vars(options).items() if name not in left_out}
    return {
        "question": options.question,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "options": given,
        **found.figures,
        "failures": dict(found.failures),
        "skipped": dict(found.skipped),
        "goals": [goal.as_json() for goal in found.goals],
    }
