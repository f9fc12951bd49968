"""How long partitions stand still when they change hands, and whether the others notice.

A producer at a steady rate; one ``pipeline run`` has all partitions, a second one joins and takes
half of them, and then leaves (SIGTERM) or is killed (SIGKILL), round after round. When a record was
applied is Postgres's to say (``track_commit_timestamp``), and so is when a partition was taken over
(``pipeline.ownership``): nothing polls the table meanwhile.

idle       a partition that moves: from the last commit of its old owner to the first of its new one
retained   the partitions that stay, while the others move: what was committed in time, as a share
           of the same in the seconds before. What stood still and was made up for later is not in
           time (see `bench.harness.silence`)
silence    the longest time between two commits of a retained partition, meanwhile

Goals, for a machine that has the cores: a join idles ≤ 1.5 s at p99, and the retained partitions keep
0.95; a kill idles at most the session timeout + 1 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import Any

import attrs

from bench.harness.drain import DrainFailed, servers
from bench.harness.figures import Spread
from bench.harness.live import Live
from bench.harness.machine import machine, versions
from bench.harness.silence import Commit, Commits, Idle, idle, in_time, longest, rate
from pipeline.local.process import Process

EXAMPLE = "example: python -m bench.handover --joins 3 --kills 1 --kafka heartbeat_interval_ms=3000"
RESULTS = Path(__file__).parent / "results" / "handover.json"

TABLE = "create table sessions (id bigint primary key, partition int)"
SINK = """\
[sink]
table = "public.sessions"
mode = "insert"

[sink.columns]
id = "id"
partition = "@partition"
"""
SESSION_SECONDS = 6.0
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 1.0

JOIN_IDLE = 1.5
RETAINED = 0.95
KILL_IDLE = SESSION_SECONDS + 1.0

MOVED = """\
select partition, max(extract(epoch from acquired_at))::float8 as at
from pipeline.ownership group by 1 having max(extract(epoch from acquired_at)) > $1"""
COMMITTED = """\
select partition, at, count(*) as records
from (select partition, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as at
      from sessions) commits
where at > $1 group by 1, 2 order by 2"""


@attrs.frozen
class Change:
    """One change of the group's members. Seconds."""

    kind: str
    """join, leave, kill"""
    idle: tuple[float, ...]
    """Of each partition that moved."""
    retained: float | None
    """The share that the partitions that stay kept; None where none stays."""
    silence: float
    """The longest of a partition that stays."""
    usual_silence: float
    """The same in the seconds before."""


def figures(kind: str, commits: Commits, moved: Mapping[int, float], began: float) -> Change:
    """What a change that began at ``began`` did to the partitions that moved, and to the others."""
    idles = [idle(commits[partition], at) for partition, at in moved.items()]
    stay = {partition: of for partition, of in commits.items() if partition not in moved}
    seconds = tuple(sorted(found.seconds for found in idles))
    if not stay:
        return Change(kind, seconds, None, 0.0, 0.0)
    before, meanwhile = (began - BEFORE_SECONDS, began), _span(idles)
    usual = rate(stay, *before)
    return Change(
        kind,
        seconds,
        in_time(stay, *meanwhile, usual) / in_time(stay, *before, usual),
        max(longest(of, *meanwhile) for of in stay.values()),
        max(longest(of, *before) for of in stay.values()),
    )


def _span(idles: Sequence[Idle]) -> tuple[float, float]:
    return min(i.last for i in idles), max(i.first for i in idles)


class Bench:
    """The rounds, on one topic."""

    def __init__(self, live: Live, partitions: int) -> None:
        self._live = live
        self._partitions = partitions

    def start(self, rate: float, warm_up: float) -> None:
        """The first instance and the producer, and the time that they need to run evenly."""
        self._live.instance()
        self._live.producer(rate)
        self._live.until(lambda: bool(self._live.query("select from sessions limit 1")), "rows")
        time.sleep(warm_up)

    def join(self) -> tuple[Process, Change]:
        """A second instance takes half of the partitions."""
        joined: list[Process] = []
        change = self._changed("join", lambda: joined.append(self._live.instance()))
        return joined[0], change

    def leave(self, member: Process) -> Change:
        """It is stopped."""
        return self._changed("leave", member.stop)

    def kill(self, member: Process) -> Change:
        """It is killed."""
        return self._changed("kill", lambda: member.kill(SIGKILL))

    def _changed(self, kind: str, change: Callable[[], None]) -> Change:
        time.sleep(BEFORE_SECONDS)
        began = time.time()
        change()
        wanted = self._partitions // 2
        self._live.until(lambda: len(self._moved(began)) >= wanted, f"a {kind} moves {wanted}")
        time.sleep(AFTER_SECONDS)
        moved = self._moved(began)
        commits: dict[int, list[Commit]] = defaultdict(list)
        for partition, at, records in self._live.query(COMMITTED, began - BEFORE_SECONDS):
            commits[partition].append(Commit(at, records))
        return figures(kind, commits, moved, began)

    def _moved(self, since: float) -> dict[int, float]:
        return dict(self._live.query(MOVED, since))


def measure(options: argparse.Namespace) -> list[Change]:
    """All rounds; each is printed."""
    kafka = f"session_timeout_ms = {SESSION_SECONDS * 1000:.0f}\n"
    kafka += "".join(f"{name} = {value}\n" for name, value in options.kafka)
    changes: list[Change] = []

    def add(change: Change) -> None:
        changes.append(change)
        print(line(change), flush=True)

    with (
        servers() as started,
        Live(started, options.partitions, table=TABLE, sink=SINK, kafka=kafka) as live,
    ):
        bench = Bench(live, options.partitions)
        bench.start(options.rate, options.warm_up)
        for number in range(options.joins):
            member, change = bench.join()
            add(change)
            killed = number >= options.joins - options.kills
            add(bench.kill(member) if killed else bench.leave(member))
    return changes


def line(change: Change) -> str:
    """A change as a line of the progress."""
    shown = f"{change.kind:<6} {len(change.idle):>3} moved, idle up to {max(change.idle):5.2f} s"
    if change.retained is None:
        return shown
    return (
        f"{shown}; retained {change.retained:5.2f}, silence {change.silence:5.2f} s"
        f" (before {change.usual_silence:.2f})"
    )


def verdicts(changes: Sequence[Change]) -> dict[str, tuple[float, bool]]:
    """What was reached, and whether that meets the goal, by goal; those that were measured."""
    joins = [change for change in changes if change.kind == "join"]
    kills = [change for change in changes if change.kind == "kill"]
    found: dict[str, tuple[float, bool]] = {}
    if joins:
        p99 = Spread.of(seconds for change in joins for seconds in change.idle).p99
        found[f"join: idle p99 ≤ {JOIN_IDLE} s"] = (p99, p99 <= JOIN_IDLE)
    if kept := [change.retained for change in joins if change.retained is not None]:
        found[f"join: retained ≥ {RETAINED}, worst"] = (min(kept), min(kept) >= RETAINED)
    if kills:
        highest = max(seconds for change in kills for seconds in change.idle)
        found[f"kill: idle ≤ {KILL_IDLE} s, all"] = (highest, highest <= KILL_IDLE)
    return found


def table(changes: Sequence[Change]) -> str:
    """All rounds together, within 80 columns."""
    lines = [
        f"{'':<6} {'rounds':>6} {'moved':>6} {'idle p50':>9} {'p99':>7} {'max':>7}"
        f" {'retained':>9} {'worst':>6} {'silence':>8}"
    ]
    for kind in ("join", "leave", "kill"):
        of = [change for change in changes if change.kind == kind]
        if of:
            lines.append(f"{kind:<6} {len(of):>6} " + _row(of))
    for goal, (reached, met) in verdicts(changes).items():
        lines.append(f"goal {goal:<36} {reached:6.2f}  {'met' if met else 'MISSED'}")
    return "\n".join(lines)


def _row(changes: Sequence[Change]) -> str:
    idles = Spread.of(seconds for change in changes for seconds in change.idle)
    kept = sorted(change.retained for change in changes if change.retained is not None)
    shown = f"{idles.count:>6} {idles.p50:>9.2f} {idles.p99:>7.2f} {idles.highest:>7.2f}"
    if not kept:
        return shown
    silence = max(change.silence for change in changes)
    return f"{shown} {Spread.of(kept).p50:>9.2f} {kept[0]:>6.2f} {silence:>8.2f}"


def document(options: argparse.Namespace, changes: Sequence[Change]) -> dict[str, Any]:
    """All figures, and what they were measured on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "load": {"partitions": options.partitions, "rate": options.rate},
        "session_timeout_s": SESSION_SECONDS,
        "kafka": dict(options.kafka),
        "changes": [attrs.asdict(change) for change in changes],
        "goals": [
            {"goal": goal, "reached": reached, "met": met}
            for goal, (reached, met) in verdicts(changes).items()
        ],
    }


def _setting(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name, int(value)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; 1 where it failed, and with ``--gate`` where a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.handover", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--joins", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--kills", type=int, default=3, help="of them end by SIGKILL (default: 3)")
    parser.add_argument("--rate", type=float, default=2000.0, help="records/s (default: 2,000)")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds (default: 10)")
    parser.add_argument(
        "--kafka", type=_setting, action="append", default=[], metavar="NAME=NUMBER",
        help="an option of the consumer, for [kafka]",
    )  # fmt: skip
    parser.add_argument("--gate", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument("--output", type=Path, metavar="FILE.json", default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        changes = measure(options)
    except DrainFailed as problem:
        print(problem, file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document(options, changes), indent=2) + "\n")
    print("\n" + table(changes))
    return int(options.gate and not all(met for _, met in verdicts(changes).values()))


if __name__ == "__main__":
    sys.exit(main())
