"""Every way to do the job, in turn, on the same topic and the same servers. See ``bench/compare``.

The programs take turns and the rounds repeat the turn, so that whatever else the machine does is
spread over all of them. After each round everything measured so far is written.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import attrs

from bench.harness import comparison_report as report
from bench.harness import load
from bench.harness.drain import PARTITIONS, Drained, DrainFailed, Topic, drain, filled, servers
from bench.harness.machine import machine, versions
from bench.subjects.peers.catalogue import PEERS, TWO, Peer
from bench.subjects.peers.debezium import enveloped
from bench.subjects.peers.environment import BuildFailed
from bench.throughput import HEADER, line
from pipeline.local import LocalError, Servers

RESULTS = Path(__file__).parent / "results"


@attrs.define
class Comparison:
    """What was asked for, and what has been measured."""

    options: argparse.Namespace
    peers: list[Peer]
    runs: list[Drained] = attrs.Factory(list)
    failures: dict[str, str] = attrs.Factory(dict)

    def build(self) -> None:
        """Build what is missing; a peer that can't be built is left out, and said so."""
        for peer in list(self.peers):
            try:
                peer.build()
            except (BuildFailed, LocalError) as problem:
                self.failed(peer, problem)
                self.peers.remove(peer)

    def run(self, started: Servers) -> None:
        """All rounds."""
        topics = _Topics(started, self.options)
        print(HEADER)
        for _ in range(self.options.rounds):
            for peer in self.peers:
                try:
                    run = drain(started, topics.of(peer), peer.name, peer.commands)
                except DrainFailed as problem:
                    self.failed(peer, problem)
                    continue
                self.runs.append(run)
                print(line(run), flush=True)
            self.write()

    def failed(self, peer: Peer, problem: Exception) -> None:
        self.failures[peer.name] = str(problem)
        print(f"{peer.name}: {problem}", file=sys.stderr, flush=True)

    def write(self) -> None:
        """Figures as JSON, as a table, and as a picture."""
        document = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "load": {
                "records": self.options.records,
                "keys": self.options.keys,
                "seed": self.options.seed,
                "partitions": PARTITIONS,
                "rounds": self.options.rounds,
            },
            "peers": [
                attrs.asdict(peer, filter=attrs.filters.exclude("commands", "build"))
                for peer in self.peers
            ],
            "runs": [attrs.asdict(run) for run in self.runs],
            "failures": self.failures,
        }
        report.write(document, self.options.output)


class _Topics:
    """The topics, each filled when the first peer needs it."""

    def __init__(self, started: Servers, options: argparse.Namespace) -> None:
        self._servers = started
        self._options = options
        self._made: dict[tuple[float, bool], Topic] = {}

    def of(self, peer: Peer) -> Topic:
        key = (peer.share, peer.enveloped)
        if key not in self._made:
            self._made[key] = self._filled(int(self._options.records * peer.share), peer.enveloped)
        return self._made[key]

    def _filled(self, records: int, with_schema: bool) -> Topic:
        keys, seed = self._options.keys, self._options.seed
        if not with_schema:
            return filled(self._servers, records, keys, seed)
        name = f"enveloped-{records}-{keys}"
        self._servers.create_topic(name, PARTITIONS)
        load.fill(self._servers.bootstrap, name, enveloped(load.records(records, keys, seed)))
        return Topic(name, records, load.expected(load.records(records, keys, seed)))


def main() -> int:
    """Run the comparison; 1 where a peer failed or a row was wrong."""
    options = _options()
    chosen = [peer for peer in (*PEERS, *([TWO] if options.two else [])) if _wanted(peer, options)]
    if options.list or not chosen:
        print(*(peer.name for peer in (*PEERS, TWO)), sep="\n")
        return 0 if options.list else 2
    comparison = Comparison(options, chosen)
    comparison.build()
    with servers() as started:
        comparison.run(started)
    table = options.output.with_suffix(".md")
    print(table.read_text())
    wrong = any(run.wrong for run in comparison.runs)
    return 1 if comparison.failures or wrong else 0


def _wanted(peer: Peer, options: argparse.Namespace) -> bool:
    return not options.peers or any(part in peer.name for part in options.peers)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/compare", description=__doc__)
    parser.add_argument("peers", nargs="*", help="parts of the names of those to run; none: all")
    parser.add_argument("--list", action="store_true", help="print all names and exit")
    parser.add_argument("--two", action="store_true", help="two processes of ours, too")
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json",
        default=RESULTS / f"compare-{datetime.now(UTC):%Y-%m-%d}.json",
        help="the table and the picture go beside it (default: bench/results/compare-DATE.json)",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
