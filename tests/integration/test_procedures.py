"""The page on moving a partition and on adding partitions, step by step, under a load."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from pipeline.local.postgres import psql
from pipeline.partitioner import partition_for
from tests.support import accounts
from tests.support.in_process import Commands
from tests.support.instance import ROOT
from tests.support.pipelines import Job, JobFactory, account_database
from tests.support.servers import DatabaseFactory
from tests.support.topics import add_partitions

pytestmark = pytest.mark.real

PAGE = ROOT / "docs" / "operations" / "moving.md"
MOVED = 3
KEYS = 200


def blocks(language: str) -> list[str]:
    """The page's blocks of a language, in order."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [re.sub(r"^ {3}", "", block, flags=re.MULTILINE) for block in found]


def of_this_job(block: str, job: Job) -> str:
    """A block with the names of this job."""
    return block.replace("sessions/sessions", f"{job.group.group}/{job.topic}")


def psql_in(directory: Path, dsn: str, script: str) -> None:
    """Run a script of psql in a folder, where its files are."""
    here = Path.cwd()
    os.chdir(directory)
    try:
        psql(dsn, script)
    finally:
        os.chdir(here)


def restart_one_by_one(job: Job) -> None:
    """Each instance ends, and another one begins with the file as it is now."""
    for instance in list(job.instances):
        assert instance.stop() == 0
        job.start()
        job.wait_until(lambda: job.group.members() == 2)


def test_a_partition_moves_to_another_database_under_a_load(
    job: Job, database: DatabaseFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = account_database(database), account_database(database)
    take_out, bring_in, forget = (of_this_job(block, job) for block in blocks("sql"))
    job.write_config({"db0": (old, "0-3"), "db1": (new, "4-5")})
    commands = Commands(job, capsys)
    job.start()
    job.start()
    with job.load(accounts.changes(100_000, KEYS, seed=1), per_second=500):
        job.wait_until(lambda: all(job.group.committed().values()))

        commands.run("pause", "add", "--partition", f"{job.topic}-{MOVED}")
        ids = [key for key in range(KEYS) if partition_for(str(key).encode(), 6) == MOVED]
        rows = ",".join(f"({key})" for key in ids)
        psql(old, f"create table moving (id bigint); insert into moving values {rows}")
        psql_in(tmp_path, old, take_out)
        psql_in(tmp_path, new, bring_in)
        job.write_config({"db0": (old, "0-2"), "db1": (new, "3-5")})
        restart_one_by_one(job)
        psql(old, forget)
        commands.run("check")
        commands.run("pause", "remove", "--partition", f"{job.topic}-{MOVED}")
        moved_at = job.group.committed()[MOVED]
        job.wait_until(lambda: job.group.committed()[MOVED] > moved_at)
    job.wait_caught_up()
    psql(old, "delete from accounts where id in (select id from moving)")
    log = job.log()
    assert accounts.differences({p: log[p] for p in (0, 1, 2)}, old) == []
    assert accounts.differences({p: log[p] for p in (3, 4, 5)}, new) == []


LAST_BY_KEY = accounts.SINK.replace('"@offset"', '"n"')
"""The order is that of the numbers, not of offsets: a key has records in two partitions."""


def expected(log: Mapping[int, list[object]]) -> dict[int, accounts.Row]:
    """The rows of all records, in the order of their numbers."""
    every = [record for records in log.values() for record in records]
    every.sort(key=lambda record: orjson.loads(record.value)["n"])  # type: ignore[attr-defined]
    return {
        key: accounts.Row(row.seen, row.total, row.last, row.last, row.marks)
        for key, row in accounts.model({0: every}).items()
    }


def test_partitions_are_added_and_every_key_keeps_its_order(
    new_job: JobFactory, account_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(3)
    job.write_config({"db0": (account_dsn, "")}, sink=LAST_BY_KEY)
    commands = Commands(job, capsys)
    job.start()
    job.produce(accounts.changes(2000, KEYS, seed=1))
    job.wait_caught_up()
    old = [f"{job.topic}-{number}" for number in (0, 1, 2)]
    for partition in old:  # so that they have something to do when the new ones begin
        commands.run("pause", "add", "--partition", partition)
    job.produce(accounts.changes(2000, KEYS, seed=2, first=2000))

    add_partitions(job.bootstrap, job.topic, total=6)
    new = [f"{job.topic}-{number}" for number in (3, 4, 5)]
    for partition in new:
        commands.run("pause", "add", "--partition", partition)
    noted = commands.json("lag")["partitions"]
    job.group.close()
    job.produce(accounts.changes(2000, KEYS, seed=3, first=4000))
    for partition in old:
        commands.run("pause", "remove", "--partition", partition)
    ends = {each["partition"]: each["end"] for each in noted if each["partition"] < 3}
    job.wait_until(lambda: all(job.group.committed()[p] >= end for p, end in ends.items()))
    assert not any(job.group.committed()[number] for number in (3, 4, 5))
    for partition in new:
        commands.run("pause", "remove", "--partition", partition)
    job.wait_caught_up()
    log = job.log()
    assert all(log[number] for number in (3, 4, 5))
    assert accounts.stored(account_dsn) == expected(log)
    assert psql(account_dsn, "select * from violations") == ""
