"""``pipeline dlq replay`` and ``drop``: one at a time, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from pipeline.cli import main
from pipeline.operate import replay
from tests.support.letters import Dlq, Letters, Output, offsets
from tests.support.pipelines import PATIENCE, ROOT

pytestmark = pytest.mark.real

HOLDER = """\
import sys
from pipeline.config.load import load
from pipeline.operate.cluster import open_cluster
from pipeline.operate.exclusion import alone
with open_cluster(load(sys.argv[1])) as cluster, alone(cluster, sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(letters: Letters) -> Iterator[subprocess.Popen[str]]:
    """A process that settles the dead letters meanwhile, until it is killed or told to end."""
    command = [sys.executable, "-c", HOLDER, str(letters.job.config), letters.topic]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("words", ["replay", "drop --yes"])
def test_a_second_one_does_nothing_until_the_first_has_ended(
    letters: Letters, dlq: Dlq, words: str
) -> None:
    letters.put(1, "a")
    with held(letters) as holder:
        (message,) = dlq(letters, *words.split(), code=1)
        assert "another pipeline dlq replay or drop" in message
        assert "nothing was done" in message
        assert letters.sent() == []
        assert offsets(dlq(letters, "list")) == ["0"]  # looking is free
        holder.communicate("")
        assert holder.returncode == 0
    assert dlq(letters, *words.split())[0].endswith("1 dead letter")


def test_one_that_was_killed_keeps_others_away_until_its_session_times_out(
    letters: Letters, dlq: Dlq, capsys: Output
) -> None:
    letters.put(1, "a")
    with held(letters) as holder:
        holder.kill()
        holder.wait()
    dlq(letters, "replay", code=1)

    def replayed() -> bool:
        return main(["dlq", "replay", "--config", str(letters.job.config)]) == 0

    letters.job.wait_until(replayed)
    assert capsys.readouterr().out == "replayed 1 dead letter\n"
    assert letters.sent() == ["a"]


@pytest.mark.parametrize("words", ["replay", "drop --yes"])
def test_one_that_lost_its_place_stops_before_its_next_chunk(
    letters: Letters, dlq: Dlq, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(replay, "CHUNK", 2)
    for n in range(5):
        letters.put(n, str(n))
    real = replay._mark

    def mark(*args: Any) -> None:
        real(*args)
        group = f"{letters.job.group.group}.{letters.topic}"
        admin = KafkaAdminClient(bootstrap_servers=letters.job.bootstrap)
        (member,) = admin.describe_groups([group])[group]["members"]
        admin.remove_group_members(group, [MemberToRemove(member_id=member["member_id"])])
        admin.close()

    with monkeypatch.context() as expelling:
        expelling.setattr(replay, "_mark", mark)
        (message,) = dlq(letters, *words.split(), code=1)
    assert "this process is no longer in group" in message
    assert offsets(dlq(letters, "list")) == ["2", "3", "4"]
    assert letters.sent() == (["0", "1"] if words == "replay" else [])


def test_of_two_that_start_together_no_record_is_sent_twice(letters: Letters) -> None:
    for n in range(3):
        letters.put(n, str(n))
    command = [sys.executable, "-m", "pipeline", "dlq", "replay"]
    command += ["--config", str(letters.job.config)]
    both = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(2)
    ]
    assert {process.wait(PATIENCE) for process in both} <= {0, 1}
    assert letters.sent() in ([], ["0", "1", "2"])
