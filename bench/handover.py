"""How long do partitions stand still when they change hands, and do the others notice?

A producer runs at a steady rate. One ``pipeline run`` has all partitions; a second one joins and takes
half of them, and then leaves (SIGTERM) or is killed (SIGKILL), round after round. Postgres keeps the
time when a record was applied (``track_commit_timestamp``) and when a partition was taken over
(``pipeline.ownership``), so nothing polls the table meanwhile.

idle       per partition that moves: from the old owner's last commit to the new owner's first
retained   per partition that stays: what was committed in time while the others moved, as a share
           of the same in the seconds before. What stood still and was caught up with later is not
           in time (see `bench.harness.silence`)
silence    the longest time between two commits of a partition that stays, meanwhile

Goals, for a machine that has the cores: a join idles at most 1.5 s at p99 and the partitions that stay
keep 0.95; a kill idles at most the session timeout and 1 s.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from signal import SIGKILL

import attrs

from bench.harness.drain import servers
from bench.harness.figures import Spread
from bench.harness.goals import Goal, at_least, at_most
from bench.harness.live import Live
from bench.harness.question import Answer, answer, parser
from bench.harness.silence import Commit, Commits, Idle, idle, in_time, longest, rate
from bench.subjects.programs import pipeline
from pipeline.local.process import Process

TABLE = "create table sessions (id bigint primary key, partition int)"
SINK = {
    "table": "public.sessions",
    "mode": "insert",
    "columns": {"id": "id", "partition": "@partition"},
}
SESSION_SECONDS = 6.0
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 1.0

JOIN_IDLE = 1.5
RETAINED = 0.95
KILL_IDLE = SESSION_SECONDS + 1.0

MOVED = """\
select partition, max(extract(epoch from taken_at))::float8 as at
from pipeline.ownership group by 1 having max(extract(epoch from taken_at)) > $1"""
COMMITTED = """\
select partition, at, count(*) as records
from (select partition, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as at
      from sessions) commits
where at > $1 group by 1, 2 order by 2"""


@attrs.frozen
class MemberChange:
    """One change of the group's members. Times are in seconds."""

    kind: str
    """join, leave or kill"""
    idle: tuple[float, ...]
    """Per partition that moved, in ascending order."""
    retained: float | None
    """The share that the partitions that stay kept; None if none stays."""
    silence: float
    """The longest of any partition that stays."""
    usual_silence: float
    """The same, in the seconds before."""


def figures(kind: str, commits: Commits, moved: Mapping[int, float], began: float) -> MemberChange:
    """Compute what a change that began at ``began`` did to the partitions that moved and to the rest.

    Args:
        kind: of change.
        commits: of all partitions, from some seconds before the change on.
        moved: when each partition that moved was taken over.
        began: when the change began, in seconds since the epoch.
    """
    idles = [idle(commits[partition], at) for partition, at in moved.items()]
    stay = {partition: of for partition, of in commits.items() if partition not in moved}
    seconds = tuple(sorted(found.seconds for found in idles))
    if not stay:
        return MemberChange(kind, seconds, None, 0.0, 0.0)
    before, meanwhile = (began - BEFORE_SECONDS, began), _span(idles)
    usual = rate(stay, *before)
    return MemberChange(
        kind,
        seconds,
        in_time(stay, *meanwhile, usual) / in_time(stay, *before, usual),
        max(longest(of, *meanwhile) for of in stay.values()),
        max(longest(of, *before) for of in stay.values()),
    )


def _span(idles: Sequence[Idle]) -> tuple[float, float]:
    return min(i.last for i in idles), max(i.first for i in idles)


class Group:
    """The members of a group and their producer, on one topic."""

    def __init__(self, live: Live, partitions: int) -> None:
        self._live = live
        self._partitions = partitions

    def start(self, rate: float, warm_up: float) -> None:
        """Start the first instance and the producer; wait until they run evenly."""
        self._live.instance()
        self._live.producer(rate)
        self._live.until(lambda: bool(self._live.query("select from sessions limit 1")), "rows")
        time.sleep(warm_up)

    def join(self) -> tuple[Process, MemberChange]:
        """Start a second instance, which takes half of the partitions."""
        joined: list[Process] = []
        change = self._changed("join", lambda: joined.append(self._live.instance()))
        return joined[0], change

    def leave(self, member: Process) -> MemberChange:
        """Stop a member."""
        return self._changed("leave", member.stop)

    def kill(self, member: Process) -> MemberChange:
        """Kill a member."""
        return self._changed("kill", lambda: member.kill(SIGKILL))

    def _changed(self, kind: str, change: Callable[[], None]) -> MemberChange:
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


def line(change: MemberChange) -> str:
    """Format a change as a line."""
    shown = f"{change.kind:<6} {len(change.idle):>3} moved, idle up to {max(change.idle):5.2f} s"
    if change.retained is None:
        return shown
    return (
        f"{shown}; retained {change.retained:5.2f}, silence {change.silence:5.2f} s"
        f" (before {change.usual_silence:.2f})"
    )


def goals(changes: Sequence[MemberChange]) -> list[Goal]:
    """Return the goals that were measured."""
    joins = [change for change in changes if change.kind == "join"]
    kills = [change for change in changes if change.kind == "kill"]
    found = []
    if joins:
        p99 = Spread.of(seconds for change in joins for seconds in change.idle).p99
        found.append(at_most("join: idle p99, s", p99, JOIN_IDLE))
    if kept := [change.retained for change in joins if change.retained is not None]:
        found.append(at_least("join: retained, worst", min(kept), RETAINED))
    if kills:
        highest = max(seconds for change in kills for seconds in change.idle)
        found.append(at_most("kill: idle, highest, s", highest, KILL_IDLE))
    return found


def table(changes: Sequence[MemberChange]) -> str:
    """Format all rounds together, within 80 columns."""
    lines = [
        f"{'':<6} {'rounds':>6} {'moved':>6} {'idle p50':>9} {'p99':>7} {'max':>7}"
        f" {'retained':>9} {'worst':>6} {'silence':>8}"
    ]
    for kind in ("join", "leave", "kill"):
        of = [change for change in changes if change.kind == kind]
        if of:
            lines.append(f"{kind:<6} {len(of):>6} " + _row(of))
    return "\n".join(lines)


def _row(changes: Sequence[MemberChange]) -> str:
    idles = Spread.of(seconds for change in changes for seconds in change.idle)
    kept = sorted(change.retained for change in changes if change.retained is not None)
    shown = f"{idles.count:>6} {idles.p50:>9.2f} {idles.p99:>7.2f} {idles.highest:>7.2f}"
    if not kept:
        return shown
    silence = max(change.silence for change in changes)
    return f"{shown} {Spread.of(kept).p50:>9.2f} {kept[0]:>6.2f} {silence:>8.2f}"


def measure(options: argparse.Namespace) -> Answer:
    """Measure all rounds; print a line per change.

    Raises:
        DrainFailed: an instance or the producer failed, or no partition moved.
    """
    kafka = {"session_timeout_ms": round(SESSION_SECONDS * 1000), **dict(options.kafka)}
    commands = partial(pipeline, sink=SINK, kafka=kafka)
    changes: list[MemberChange] = []

    def add(change: MemberChange) -> None:
        changes.append(change)
        print(line(change), flush=True)

    with (
        servers() as started,
        Live.open(started, commands, partitions=options.partitions, table=TABLE) as live,
    ):
        group = Group(live, options.partitions)
        group.start(options.rate, options.warm_up)
        for number in range(options.joins):
            member, change = group.join()
            add(change)
            killed = number >= options.joins - options.kills
            add(group.kill(member) if killed else group.leave(member))
    print("\n" + table(changes))
    figures = {
        "session_timeout_s": SESSION_SECONDS,
        "changes": [attrs.asdict(change) for change in changes],
    }
    return Answer(figures, goals(changes))


def _setting(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name, int(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    example = "--joins 3 --kills 1 --kafka heartbeat_interval_ms=3000"
    made = parser("handover", __doc__, example)
    made.add_argument("--joins", type=int, default=5, help="rounds (default: 5)")
    made.add_argument(
        "--kills", type=int, default=3, help="rounds that end with SIGKILL (default: 3)"
    )
    made.add_argument("--rate", type=float, default=2000.0, help="records/s (default: 2,000)")
    made.add_argument("--partitions", type=int, default=12, help="(default: 12)")
    made.add_argument("--warm-up", type=float, default=10.0, help="s (default: 10)")
    made.add_argument(
        "--kafka", type=_setting, action="append", default=[], metavar="NAME=NUMBER",
        help="an option of the consumer, for [kafka]",
    )  # fmt: skip
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
