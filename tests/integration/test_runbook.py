"""What the runbook says of contention, done to a running instance as it is written there."""

from __future__ import annotations

import re
import signal

import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.instance import ROOT
from tests.support.locked import locked
from tests.support.pipelines import JobFactory

pytestmark = pytest.mark.real

RUNBOOK = (ROOT / "docs" / "operations" / "runbook.md").read_text()

WAITS = "select wait_event from pg_stat_activity"

HOT = 7
"""A key of many; its row is locked."""


def query_of(entry: str) -> str:
    """The SQL that an entry says to type."""
    text = RUNBOOK.partition(f"\n## {entry}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    return str(found)


def test_a_locked_row_is_found_as_the_runbook_says(new_job: JobFactory, account_dsn: str) -> None:
    job = new_job(1)
    job.write_config({"db0": (account_dsn, "")}, limits='lock_timeout = "60s"')
    instance = job.start()
    job.produce([accounts.change(key, key) for key in range(20)])
    job.wait_caught_up()
    with locked(account_dsn, f"select 1 from accounts where id = {HOT} for update"):
        job.wait_until(lambda: "PgSleep" in psql(account_dsn, WAITS), "locked")
        job.produce([accounts.change(HOT, n) for n in range(100, 3100)])
        before = instance.metric("pipeline_records_applied_total")
        job.produce([accounts.change(key, 3100 + key) for key in range(20) if key != HOT])
        job.wait_until(
            lambda: instance.metric("pipeline_records_applied_total") == before + 19,
            "all other keys go on",
        )
        # What PipelineHotKey and PipelineContention look at.
        assert instance.metric("pipeline_buffered_records") == 3000
        assert instance.metric("pipeline_key_channels") == 1
        job.wait_until(lambda: instance.metric("pipeline_message_lag") == 3019)
        assert instance.metric("pipeline_time_lag_seconds") > 0
        job.wait_until(lambda: instance.metric("pipeline_busy_connections") == 1)
        instance.signal(signal.SIGUSR1)
        job.wait_until(lambda: "every task and thread:" in instance.output)

        found = [
            row.split("|") for row in psql(account_dsn, query_of("PipelineContention")).splitlines()
        ]
        (blocked,) = [row for row in found if row[4] != "{}"]
        (blocker,) = [row for row in found if row[4] == "{}"]
        assert blocked[1] == job.group.group, "the name of the pipeline"
        assert blocked[4] == f"{{{blocker[0]}}}"
        psql(account_dsn, f"select pg_terminate_backend({blocker[0]})")
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []
    assert instance.stop() == 0
