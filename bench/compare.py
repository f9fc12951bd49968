"""How fast is every other way to do the job, on the same topic and the same servers?

The programs take turns, and the rounds repeat the turns, so that whatever else the machine does is
spread over all of them. Peers that can't be built here are left out, with the reason. ``--json`` also
writes a table (.md) and a picture (.png) beside the file.

Goals, each against the best variant of the others: 1.15 × the best hand-written loop in Python, 1.5 ×
the best Java program, 9 µs of CPU per record, 200 MB.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from bench.harness import comparison_report
from bench.harness.drain import DrainFailed, servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.question import Answer, add_load, answer, document, parser
from bench.harness.report import HEADER
from bench.harness.topics import PARTITIONS, Load, Topics
from bench.pictures.draw import draw
from bench.subjects.peers.catalogue import HAND_LOOPS, JAVA, PEERS, TWO, Peer, built
from bench.subjects.peers.debezium import enveloped
from bench.subjects.programs import PIPELINE

HAND_LOOP_RATIO, JAVA_RATIO = 1.15, 1.5
CPU_MICROSECONDS, MEMORY_MEGABYTES = 9.0, 200.0


def variant(peer: Peer, records: int, keys: int, seed: int) -> Variant:
    """Return a peer as what an experiment measures."""
    encoding = enveloped if peer.enveloped else None
    load = Load(int(records * peer.share), keys, seed, encoding=encoding)
    return Variant(peer.name, peer.commands, load)


def goals(peers: Sequence[Peer], experiment: Experiment) -> list[Goal]:
    """Return the goals of the pipeline, as far as it and those to compare with were measured."""
    rates = experiment.median("rate")
    if PIPELINE not in rates:
        return []
    found = []
    for name, families, bound in (
        ("pipeline ÷ best hand-written loop", HAND_LOOPS, HAND_LOOP_RATIO),
        ("pipeline ÷ best Java program", JAVA, JAVA_RATIO),
    ):
        others = [rates[p.name] for p in peers if p.family in families and p.name in rates]
        if others:
            found.append(at_least(name, rates[PIPELINE] / max(others), bound))
    cpu, memory = experiment.median("cpu")[PIPELINE], experiment.median("memory")[PIPELINE]
    found.append(at_most("pipeline: CPU per record, µs", cpu, CPU_MICROSECONDS))
    found.append(at_most("pipeline: memory, MB", memory, MEMORY_MEGABYTES))
    return found


def chosen(options: argparse.Namespace) -> list[Peer]:
    """Return the peers whose names were asked for."""
    peers = [*PEERS, TWO] if options.two else PEERS
    parts = options.peers
    return [peer for peer in peers if not parts or any(part in peer.name for part in parts)]


def measure(options: argparse.Namespace) -> Answer:
    """Measure all peers in turn; a peer that fails is tried again in the next round."""
    peers, skipped = built(chosen(options))
    experiment = Experiment(
        [variant(peer, options.records, options.keys, options.seed) for peer in peers]
    )
    failures: dict[str, str] = {}
    with servers() as started:
        topics = Topics(started)
        print(HEADER)
        for one in [*experiment.variants] * options.rounds:
            try:
                experiment.run(topics, one)
            except DrainFailed as problem:
                failures[one.name] = str(problem)
                print(f"{one.name}: {problem}", file=sys.stderr, flush=True)
    left_out = attrs.filters.exclude("commands", "build")
    figures = {
        "partitions": PARTITIONS,
        "peers": [attrs.asdict(peer, filter=left_out) for peer in peers],
        "runs": experiment.as_json(),
    }
    measured = goals(peers, experiment)
    found = Answer(figures, measured, experiment.wrong, failures, skipped)
    print("\n" + comparison_report.table(document(options, found)))
    return found


def report(results: Path) -> None:
    """Write the table and the picture of a file of results beside it."""
    table = comparison_report.table(json.loads(results.read_text()))
    results.with_suffix(".md").write_text(table)
    draw("comparison", results, results.with_suffix(".png"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("compare", __doc__, "pipeline loop --two --records 250000")
    made.add_argument("peers", nargs="*", help="parts of the names of those to run; none: all")
    made.add_argument("--list", action="store_true", help="print all names and exit")
    made.add_argument("--two", action="store_true", help="also two processes of the pipeline")
    add_load(made, 500_000, 3)
    options = made.parse_args(arguments)
    peers = chosen(options)
    if options.list or not peers:
        print("\n".join(peer.name for peer in peers or PEERS))
        return 0 if options.list else 2
    return answer(options, measure, report)


if __name__ == "__main__":
    sys.exit(main())
