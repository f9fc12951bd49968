"""How an instance ends, and what the others and the next one make of it."""

from __future__ import annotations

import signal
from itertools import count

import pytest

from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.pipelines import Job

pytestmark = pytest.mark.real


def applied_offsets(dsn: str) -> dict[int, set[int]]:
    """Partition → the offsets that the ledger has as applied."""
    applied: dict[int, set[int]] = {}
    query = "select partition, lower(r), upper(r) from pipeline.applied, unnest(offsets) r"
    for line in psql(dsn, query).splitlines():
        partition, lower, upper = map(int, line.split("|"))
        applied.setdefault(partition, set()).update(range(lower, upper))
    return applied


def watermark(applied: set[int] | None) -> int:
    """The lowest offset that is not applied."""
    return next(offset for offset in count() if offset not in (applied or ()))


def test_sigkill_loses_nothing_and_repeats_nothing(job: Job, account_dsn: str) -> None:
    job.write_config({"db0": (account_dsn, "")})
    job.start()
    with job.load(accounts.changes(100_000, keys=300, seed=1), 1500) as load:
        job.wait_until(lambda: "assigned" in job.instances[0].output and load.reached(1000))
        second = job.start()
        job.wait_until(lambda: "assigned" in second.output)
        second.signal(signal.SIGKILL)
        assert second.wait() == -signal.SIGKILL
        sent = load.sent
        job.wait_until(lambda: load.reached(sent + 2000))
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_load_commits_what_is_applied_and_leaves(
    job: Job, account_dsn: str, number: int
) -> None:
    job.write_config({"db0": (account_dsn, "")})
    instance = job.start()
    with job.load(accounts.changes(100_000, keys=300, seed=2), 2000) as load:
        job.wait_until(lambda: load.reached(2000) and any(job.group.committed().values()))
        instance.signal(number)
        assert instance.wait() == 0
        assert job.group.members() == 0, "left at once, not when the session is over"
        assert not instance.errors()
    applied = applied_offsets(account_dsn)
    committed = job.group.committed()
    assert committed == {partition: watermark(applied.get(partition)) for partition in committed}
    done = {
        partition: [r for r in records if r.offset in applied.get(partition, ())]
        for partition, records in job.log().items()
    }
    assert accounts.differences(done, account_dsn) == [], "the ledger and the rows disagree"
    following = job.start()
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []
    assert following.stop() == 0
