"""Chaos for as long as you like: python -m tests.chaos.soak --minutes 30

In rounds of two minutes, each with a topic and a table of its own: faults one after another and two
at once, under load, then every row compared with the topic. Prints a report; exit code 1 where a
single row differs, or where an instance ended that should not have.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests.chaos.faults import FAULTS, INSTANCE_FAULTS
from tests.chaos.stage import Servers, Stage
from tests.support import accounts

ROUND_SECONDS = 120.0
KEYS = 500
PER_SECOND = 1000


@attrs.define
class Report:
    """What has happened so far."""

    faults: Counter[str] = attrs.field(factory=Counter)
    records: int = 0
    duplicates: int = 0
    problems: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        faults = "\n".join(f"  {name:22}{count:6}" for name, count in sorted(self.faults.items()))
        problems = "".join(f"\n  {problem}" for problem in self.problems)
        return (
            f"faults injected         {self.faults.total():6}\n{faults}\n"
            f"records                 {self.records:6}\n"
            f"duplicates skipped      {self.duplicates:6}  (seen on the metrics endpoints)\n"
            f"differences             {len(self.problems):6}{problems}"
        )


def play(servers: Servers, seed: str, seconds: float, report: Report) -> None:
    """One round: faults under load until the time is over, then the comparison."""
    choose = random.Random(seed)
    directory = Path(tempfile.mkdtemp(prefix="pipeline-soak-"))
    stage = Stage(servers, directory)
    failed = True
    try:
        messages = accounts.changes(100_000_000, KEYS, seed=choose.randrange(1 << 30))
        with stage.job.load(messages, PER_SECOND):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                stage.wait_for_progress()
                inject(stage, choose, report)
        stage.job.wait_caught_up()
        report.records += sum(map(len, stage.log().values()))
        wrong = stage.differences()
        report.duplicates += duplicates(stage)
        codes = [instance.stop() for instance in stage.instances]
        wrong += [f"an instance ended with {code}" for code in codes if code != 0]
        failed = bool(wrong)
    except AssertionError as error:
        wrong = [str(error)]
    finally:
        if failed:
            print(f"round {seed} failed; the instances' logs are in {directory}", file=sys.stderr)
        stage.close()
    report.problems += [f"round {seed}: {line}" for line in wrong]


def inject(stage: Stage, choose: random.Random, report: Report) -> None:
    """One fault, or one of an instance and one of a server at the same time."""
    servers_faults = [name for name in FAULTS if name not in INSTANCE_FAULTS]
    names = choose.choice(
        [
            [choose.choice(INSTANCE_FAULTS)],
            [choose.choice(servers_faults)],
            [choose.choice(INSTANCE_FAULTS), choose.choice(servers_faults)],
        ]
    )
    print(f"{time.strftime('%H:%M:%S')} {' and '.join(names)}", flush=True)
    report.duplicates += duplicates(stage)
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(FAULTS[name], stage, random.Random(choose.random())) for name in names
        ]
        for one in running:
            one.result()
    report.faults.update(names)
    ended = [instance for instance in stage.instances if not instance.running]
    assert not ended, f"an instance has ended by itself:\n{ended[0].tail()}"


def duplicates(stage: Stage) -> int:
    """The duplicates that the instances running now have skipped since this was last asked."""
    counted = 0
    for instance in stage.instances:
        now = int(instance.metric("pipeline_duplicates_skipped_total"))
        counted += max(0, now - stage.skipped.get(instance.pid, 0))
        stage.skipped[instance.pid] = now
    return counted


def main() -> int:
    """Parse, play, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=f"{random.randrange(1 << 32)}", help="repeats a run")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    report, end = Report(), time.monotonic() + options.minutes * 60
    with Servers.started() as servers:
        number = 0
        while (left := end - time.monotonic()) > 0:
            play(servers, f"{options.seed}/{number}", min(ROUND_SECONDS, left), report)
            number += 1
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
