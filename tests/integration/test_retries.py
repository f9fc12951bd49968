"""Records that can't be applied, and wait with their key: on the real servers, with the commands."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.local.postgres import psql
from tests.integration.test_lanes import lanes, rows_of
from tests.support import accounts
from tests.support.in_process import Commands
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = pytest.mark.real

CHECK = "alter table accounts add constraint not_bad check (not marks ? 'bad')"
MENDED = "alter table accounts drop constraint not_bad"
HOT = 0


@pytest.fixture
def checked_dsn(database: DatabaseFactory) -> str:
    """The table of `accounts` where no row may be marked bad."""
    dsn = database()
    psql(dsn, accounts.TABLE + CHECK)
    return dsn


def bad(key: int, n: int) -> accounts.Message:
    """A record that the table's constraint refuses, whatever it is folded with."""
    value = b'{"id": %d, "one": 1, "amount": 1, "n": %d, "marks": {"bad": 1}}' % (key, n)
    return b"%d" % key, value


def hot_and_others(job: Job) -> None:
    """One record that is refused, ten behind it, and a hundred of other keys."""
    messages = [bad(HOT, 0)]
    messages += [accounts.change(HOT, n) for n in range(1, 11)]
    messages += [accounts.change(n % 50 + 1, n) for n in range(11, 111)]
    job.produce(messages)


def others_are_applied(job: Job, dsn: str) -> None:
    job.wait_until(lambda: rows_of(dsn, f"id <> {HOT}") == 100, "the others go on")
    job.wait_caught_up()
    assert rows_of(dsn, f"id = {HOT}") == 0


def held_up(commands: Commands) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = commands.json("hold", "list")["held_up"]
    return found


def test_a_record_that_may_pass_waits_over_a_kill_and_is_applied_in_order(
    new_job: JobFactory, checked_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(1)
    job.write_config({"db0": (checked_dsn, "")}, errors='retry.23514 = "1h"')
    commands = Commands(job, capsys)
    instance = job.start()
    hot_and_others(job)
    others_are_applied(job, checked_dsn)
    (found,) = held_up(commands)
    assert (found["record"], found["rule"]) == (f"{job.topic}-0@0", {"key": str(HOT)})
    assert (found["reason"], "not_bad" in found["why"]) == ("retry", True)
    instance.kill()
    instance = job.start()
    job.wait_until(lambda: instance.metric("pipeline_lane_records") == 11)
    psql(checked_dsn, MENDED)
    job.wait_until(lambda: lanes(checked_dsn) == 0, "it is tried again, and the lane is closed")
    assert accounts.differences(job.log(), checked_dsn) == []
    assert held_up(commands) == []
    assert instance.stop() == 0


def test_after_its_time_it_is_a_dead_letter_and_its_key_goes_on(
    new_job: JobFactory, checked_dsn: str, topic: TopicFactory
) -> None:
    job, dead = new_job(1), topic(1)
    errors = f'dead_letter_topic = "{dead}"\nretry.23 = "3s"'
    job.write_config({"db0": (checked_dsn, "")}, errors=errors)
    instance = job.start()
    hot_and_others(job)
    job.wait_until(lambda: rows_of(checked_dsn, f"id = {HOT}") == 10)
    (records,) = job.log().values()
    assert accounts.differences({0: records[1:]}, checked_dsn) == []
    (letter,) = accounts.read_topic(job.bootstrap, dead)[0]
    assert letter.value == records[0].value
    message = dict(letter.headers)["__connect.errors.exception.message"]
    assert b"not_bad" in message
    assert b"it was tried again for 3 s" in message
    job.wait_until(lambda: lanes(checked_dsn) == 0)
    assert instance.stop() == 0


def test_a_held_key_waits_until_its_record_is_given_up_or_mended(
    new_job: JobFactory,
    checked_dsn: str,
    topic: TopicFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job, dead = new_job(1), topic(1)
    errors = f'dead_letter_topic = "{dead}"\non_reject = "hold-key"'
    job.write_config({"db0": (checked_dsn, "")}, errors=errors)
    commands = Commands(job, capsys)
    instance = job.start()
    hot_and_others(job)
    job.produce([bad(HOT, 200), accounts.change(HOT, 201)])
    others_are_applied(job, checked_dsn)
    record = f"{job.topic}-0@0"
    shown = commands.run("hold", "list")
    assert record[:20] in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "add --first" in commands.refused("hold", "drop", record)
    assert "holds up nothing" in commands.refused("hold", "release", f"{job.topic}-0@1")
    commands.run("hold", "drop", record, "--first", "--yes")
    job.wait_until(lambda: rows_of(checked_dsn, f"id = {HOT}") == 10, "up to the next bad one")
    job.wait_until(lambda: [each["offset"] for each in held_up(commands)] == [111])
    psql(checked_dsn, MENDED)
    assert commands.json("hold", "release", "--key", str(HOT))["offset"] == 111
    job.wait_until(lambda: lanes(checked_dsn) == 0, "the lane is closed")
    (records,) = job.log().values()
    assert accounts.differences({0: records[1:]}, checked_dsn) == []
    (letter,) = accounts.read_topic(job.bootstrap, dead)[0]
    assert letter.value == records[0].value
    assert instance.stop() == 0
