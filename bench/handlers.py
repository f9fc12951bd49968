"""How many records per second does a user's own function get through?

upsert    one `execute` per record, in order per key, exactly once; one process, and two. Beside it
          the Parallel Consumer and pyrallel-consumer with one upsert per record
two       the same with two statements per record; no goal
batch     the rows of a batch as one `unnest` upsert (scope = "batch"), as a share of the declared
          sink, which writes the same statement
slow      10 ms and 100 ms of waiting per record, 1,000 keys, as a share of connections ÷ waiting

Programs take turns, round after round, on the same servers; the goals are on ratios of median rates.
Each program has 16 connections in all; of two processes each has half of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from bench.harness.drain import Commands, servers
from bench.harness.experiment import Experiment, Variant
from bench.harness.goals import Goal, at_least
from bench.harness.question import Answer, add_load, answer, parser
from bench.harness.report import medians
from bench.harness.topics import Load, Topics
from bench.subjects.peers.catalogue import PEERS, Peer, built
from bench.subjects.programs import pipeline

CONNECTIONS = 16
PARTS = ("upsert", "two", "batch", "slow")

ONE, TWO = "handler, upsert", "handler, upsert, 2 processes"
STATEMENTS = "handler, two statements"
SINK, BATCH = "declared sink", "handler, batch"
SLOW_10, SLOW_100 = "handler, 10 ms", "handler, 100 ms"
PARALLEL = "Parallel Consumer, batch 1, "
PYRALLEL = "pyrallel-consumer, one upsert per record"
PYRALLEL_SHARE = 0.2
"""Of the records: it is slow."""


def declared() -> Commands:
    """Return ``pipeline run`` with the declared sink."""
    return partial(pipeline, shard={"connections": CONNECTIONS})


def handled(function: str, *, scope: str = "key", processes: int = 1) -> Commands:
    """Return ``pipeline run`` with a function of `bench.subjects.handling`."""
    return partial(
        pipeline,
        processes=processes,
        sink={"handler": f"bench.subjects.handling:{function}", "scope": scope},
        shard={"connections": CONNECTIONS // processes},
    )


def variants(parts: Sequence[str], records: int, seed: int) -> list[Variant]:
    """Return our own programs for these parts of the question."""
    load, larger = Load(records, seed=seed), Load(3 * records, seed=seed)
    found = {
        "upsert": [
            Variant(ONE, handled("upsert"), load),
            Variant(TWO, handled("upsert", processes=2), load),
        ],
        "two": [Variant(STATEMENTS, handled("two"), load)],
        "batch": [
            Variant(SINK, declared(), larger),
            Variant(BATCH, handled("batch", scope="batch"), larger),
        ],
        "slow": [
            Variant(SLOW_10, handled("slow_10_ms"), Load(16_000, 1_000, seed)),
            Variant(SLOW_100, handled("slow_100_ms"), Load(3_200, 1_000, seed)),
        ],
    }
    return [variant for part in parts for variant in found[part]]


def with_peer(peer: Peer, records: int, seed: int) -> Variant:
    """Return a peer with one upsert per record as what an experiment measures."""
    share = PYRALLEL_SHARE if peer.name == PYRALLEL else 1.0
    return Variant(peer.name, peer.commands, Load(int(records * share), seed=seed))


def peers() -> list[Peer]:
    """Return the peers with one upsert per record."""
    return [peer for peer in PEERS if peer.name.startswith(PARALLEL) or peer.name == PYRALLEL]


def goals(rates: Mapping[str, float]) -> list[Goal]:
    """Return the goals whose programs were measured, from median rates by program."""
    parallel = max(
        (rate for name, rate in rates.items() if name.startswith(PARALLEL)), default=None
    )
    found = []
    for name, program, against, bound in (
        ("one process ÷ Parallel Consumer", ONE, parallel, 0.7),
        ("two processes ÷ Parallel Consumer", TWO, parallel, 1.0),
        ("one process ÷ pyrallel-consumer", ONE, rates.get(PYRALLEL), 2.5),
        ("batch ÷ declared sink", BATCH, rates.get(SINK), 0.8),
        ("10 ms per record ÷ connections ÷ waiting", SLOW_10, CONNECTIONS / 0.01, 0.9),
        ("100 ms per record ÷ connections ÷ waiting", SLOW_100, CONNECTIONS / 0.1, 0.9),
    ):
        if program in rates and against is not None:
            found.append(at_least(name, rates[program] / against, bound))
    return found


def measure(options: argparse.Namespace) -> Answer:
    """Measure all programs in turn.

    Raises:
        DrainFailed: a program failed.
    """
    parts = options.only or PARTS
    chosen = variants(parts, options.records, options.seed)
    wanted = peers() if options.peers and "upsert" in parts else []
    with_peers, skipped = built(wanted)
    chosen += [with_peer(peer, options.records, options.seed) for peer in with_peers]
    experiment = Experiment(chosen)
    with servers() as started:
        experiment.measure(Topics(started), options.rounds)
    rates = experiment.median("rate")
    print(medians(rates, experiment.median("cpu"), {}))
    figures = {"connections": CONNECTIONS, "runs": experiment.as_json()}
    return Answer(figures, goals(rates), experiment.wrong, skipped=skipped)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("handlers", __doc__, "upsert slow --records 50000 --no-peers --gate")
    made.add_argument(
        "only",
        nargs="*",
        choices=[[], *PARTS],
        metavar="PART",
        help="upsert, two, batch, slow; none: all",
    )
    made.add_argument(
        "--no-peers", dest="peers", action="store_false", help="only our own programs"
    )
    add_load(made, 100_000, 3, keys=None)
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
