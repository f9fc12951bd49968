"""Topics whose ends are no records: transactions' markers, aborted records."""

from __future__ import annotations

import pytest

from tests.support import accounts
from tests.support.pipelines import Job
from tests.support.transactions import send_transaction, transactional_producer

pytestmark = pytest.mark.real


def test_markers_and_aborted_records_are_no_lag_and_are_not_applied(
    job: Job, account_dsn: str
) -> None:
    """Lag stayed above 0 for ever, and /livez failed after a minute, in every restarted process."""
    job.write_config({"db0": (account_dsn, "")})
    instance = job.start()
    good = [value for _, value in (accounts.change(1, n) for n in range(5))]
    bad = [value for _, value in (accounts.change(1, n, amount=1000) for n in range(5, 10))]
    with transactional_producer(job.bootstrap) as producer:
        send_transaction(producer, job.topic, [v for v in good if v], key=b"1")
        send_transaction(producer, job.topic, [v for v in bad if v], key=b"1", end="abort")
    job.wait_until(lambda: accounts.stored(account_dsn).get(1) is not None, "applied")
    job.wait_until(
        lambda: instance.by_partition("pipeline_message_lag").get(0) == 0.0, "no lag is left"
    )
    row = accounts.stored(account_dsn)[1]
    assert (row.seen, row.total) == (5, 5), "the aborted records are not applied"
    assert instance.stop() == 0
