"""Pauses on the real Kafka and Postgres, by the commands that operators use."""

from __future__ import annotations

from urllib.request import urlopen

import pytest

from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.in_process import Commands
from tests.support.instance import Instance
from tests.support.pipelines import Job, account_database
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

FIRST, SECOND = (0, 1, 2), (3, 4, 5)

LIVE_SECONDS = 5.0
"""What is promised: so long after the command has returned every instance obeys."""


def paused(*instances: Instance) -> float:
    """How many partitions stand still by a pause, on all these instances."""
    return sum(instance.metric("pipeline_paused") for instance in instances)


def ready_text(instance: Instance) -> str:
    where = instance.output.partition("metrics and health on ")[2].split()[0]
    with urlopen(f"{where}/readyz", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_a_paused_shard_stands_still_on_every_instance_and_over_restarts(
    job: Job, database: DatabaseFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    dsns = account_database(database), account_database(database)
    job.write_config({"db0": (dsns[0], "0-2"), "db1": (dsns[1], "3-5")})
    commands = Commands(job, capsys)
    job.produce(accounts.changes(2000, keys=100, seed=1))
    one, other = job.start(), job.start()
    job.wait_caught_up()
    job.wait_until(lambda: job.group.members() == 2)
    before = job.group.committed()

    made = commands.json("pause", "add", "--shard", "db0", "--reason", "vacuum")
    assert wait_until(lambda: paused(one, other) == 3, LIVE_SECONDS), job.tails()
    job.produce(accounts.changes(2000, keys=100, seed=2))
    job.wait_caught_up(SECOND)

    assert one.stop() == 0
    late = job.start()
    job.wait_until(lambda: job.group.members() == 2 and paused(other, late) == 3)
    job.produce(accounts.changes(2000, keys=100, seed=3))
    job.wait_caught_up(SECOND)
    committed = job.group.committed()
    assert [committed[number] for number in FIRST] == [before[number] for number in FIRST]
    applied = {p: job.log()[p][: before[p]] for p in FIRST}
    assert accounts.differences(applied, dsns[0]) == []

    lags = {each["partition"]: each["paused"] for each in commands.json("lag")["partitions"]}
    assert [lags[number]["id"] for number in FIRST] == [made["id"]] * 3
    assert [lags[number] for number in SECOND] == [None] * 3
    story = f"by {made['by']} since"
    assert f"paused: shard db0 (3 partitions), {story}" in commands.run("lag")
    texts = [ready_text(instance) for instance in (other, late)]
    told = [text for text in texts if "paused: shard db0 (" in text]
    assert told
    assert all(story in text for text in told)
    assert all(text.startswith("ok\n") for text in texts)

    commands.run("pause", "remove", "--shard", "db0")
    job.wait_caught_up()
    assert paused(other, late) == 0
    log = job.log()
    for numbers, dsn in zip((FIRST, SECOND), dsns, strict=True):
        assert accounts.differences({p: log[p] for p in numbers}, dsn) == []
    assert other.stop() == late.stop() == 0


def test_a_pause_ends_by_itself(
    job: Job, account_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job.write_config({"db0": (account_dsn, "")})
    commands = Commands(job, capsys)
    commands.run("pause", "add", "--topic", job.topic, "--for", "20s")
    job.produce(accounts.changes(500, keys=50, seed=1))
    instance = job.start()
    job.wait_until(lambda: paused(instance) == 6)
    assert not any(job.group.committed().values())
    assert accounts.stored(account_dsn) == {}
    job.wait_caught_up()
    assert "goes on: the pause of topic" in instance.output
    assert accounts.differences(job.log(), account_dsn) == []
    assert commands.json("pause", "list")["pauses"] == []


def test_what_can_not_be_paused_is_refused_with_the_reason(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = "postgresql://nobody@127.0.0.1:1/none"
    job.write_config({"db0": (dsn, "0-2"), "db1": (dsn, "3-5")})
    commands = Commands(job, capsys)
    assert "one of --shard, --topic and --partition" in commands.refused("pause", "add")
    told = commands.refused("pause", "add", "--shard", "db2")
    assert "the configuration has no shard db2" in told
    assert "did you mean" in told
    assert "no topic other" in commands.refused("pause", "add", "--partition", "other-1")
    wrong = commands.refused("pause", "add", "--partition", f"{job.topic}-9")
    assert "has no partition 9, but 6" in wrong
    assert "expected TOPIC-NUMBER" in commands.refused("pause", "add", "--partition", job.topic)
    first = commands.json("pause", "add", "--shard", "db0")
    again = commands.refused("pause", "add", "--partition", f"{job.topic}-1")
    assert f"is paused already, with shard db0: pause {first['id']}" in again
    commands.run("pause", "add", "--partition", f"{job.topic}-4")
    assert "there is no pause p-none" in commands.refused("pause", "remove", "p-none")
    assert "is not paused" in commands.refused("pause", "remove", "--shard", "db1")
    assert len(commands.json("pause", "list")["pauses"]) == 2
    commands.run("pause", "remove", first["id"])
    listed = commands.run("pause", "list")
    assert first["id"] not in listed
    assert f"partition {job.topic[:20]}" in listed
