"""The dashboard of several real instances: any of them shows all, with the numbers of `pipeline lag`."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.support import accounts
from tests.support.in_process import Commands
from tests.support.instance import Instance
from tests.support.lags import send_aged
from tests.support.pipelines import Job
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real

OLD_SECONDS = 2 * 3600
"""Older than any difference between two looks at the same records can be."""


def state_of(instance: Instance) -> dict[str, Any]:
    """What it shows of the group; empty if it does not answer."""
    status, text = instance.probe("/api/state")
    found: dict[str, Any] = json.loads(text) if status == 200 else {"instances": []}
    return found


def answering(instance: Instance) -> list[bool]:
    return [each["answers"] for each in state_of(instance)["instances"]]


def test_any_instance_shows_all_partitions_with_the_numbers_of_lag(
    job: Job, account_dsn: str, topic: TopicFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = f'dead_letter_topic = "{topic(1)}"'
    job.write_config({"db0": (account_dsn, "")}, errors=errors)
    commands = Commands(job, capsys)
    alone = job.start()
    job.wait_until(lambda: "which is not there" in state_of(alone).get("note", ""))
    assert state_of(alone)["scope"] == "instance"

    job.produce([*accounts.changes(500, keys=50, seed=1), (b"1", b"not json")])
    job.wait_caught_up()
    made = commands.json("pause", "add", "--shard", "db0", "--reason", "vacuum")
    other, third = job.start(), job.start()
    job.wait_until(lambda: job.group.members() == 3)
    for number in range(6):
        send_aged(job, number, 5, 4, *[3] * number)
    whole = [True] * 3
    for instance in (alone, other, third):
        job.wait_until(lambda shown=instance: answering(shown) == whole, "all shown by each")  # type: ignore[misc]

    lags = commands.json("lag")
    assert lags["total"]["message_lag"] == 27
    job.wait_until(lambda: state_of(other).get("message_lag") == 27)
    job.wait_until(lambda: state_of(other)["time_lag_seconds"] is not None)
    shown = state_of(other)
    assert shown["scope"] == "group"
    assert len({each["owner"] for each in shown["partitions"]}) == 3
    for mine, theirs in zip(shown["partitions"], lags["partitions"], strict=True):
        assert mine["message_lag"] == theirs["message_lag"]
        assert mine["watermark"] == theirs["committed"]
        assert mine["time_lag_seconds"] == pytest.approx(
            theirs["time_lag_seconds"], abs=OLD_SECONDS
        )
        assert mine["time_lag_seconds"] > OLD_SECONDS
        assert f"by {made['by']} since" in mine["paused"]
    assert [each["id"] for each in shown["pauses"]] == [made["id"]]
    assert shown["dead_letters"] == {"not-json": 1}
    top = commands.json("top", "--url", other.url)
    names = ("topic", "partition", "message_lag", "watermark", "owner")
    assert [[each[name] for name in names] for each in top["partitions"]] == [
        [each[name] for name in names] for each in shown["partitions"]
    ]
    text = commands.run("top", "--url", other.url, "--once")
    assert "3 instances" in text
    assert "lag 27, " in text

    assert third.stop() == 0
    job.wait_until(lambda: answering(other) == [True] * 2, "one that has ended is gone")
    other.signal(signal.SIGKILL)
    job.wait_until(
        lambda: sorted(answering(alone)) == [False, True], "one that was killed is shown"
    )
    (gone,) = [each for each in state_of(alone)["instances"] if not each["answers"]]
    assert gone["problem"]
