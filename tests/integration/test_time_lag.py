"""``pipeline_message_lag`` and ``pipeline_time_lag_seconds`` of instances whose database is away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pipeline.local import Postgres
from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.lags import commit, delete_below, send_aged, send_in_a_transaction
from tests.support.letters import DSN
from tests.support.pipelines import Instance, JobFactory

pytestmark = pytest.mark.real

HOUR = 3600.0


@pytest.fixture
def stoppable() -> Iterator[Postgres]:
    """A Postgres with the table of `accounts`, which a test may stop."""
    place = Path(tempfile.mkdtemp(prefix="pipeline-test-"))
    place.chmod(0o711)
    server = Postgres(place / "postgres", remove=True)
    server.start()
    psql(server.dsn, accounts.TABLE)
    yield server
    server.close()
    shutil.rmtree(place)


def shows(
    instance: Instance, messages: Mapping[int, int], hours: Mapping[int, float]
) -> Callable[[], bool]:
    """A condition: these lags of each partition, ages as whole hours."""

    def condition() -> bool:
        ages = instance.by_partition("pipeline_time_lag_seconds")
        found = {partition: round(age / HOUR, 1) for partition, age in ages.items()}
        return instance.by_partition("pipeline_message_lag") == messages and found == hours

    return condition


def test_partitions_that_never_met_their_database(new_job: JobFactory) -> None:
    job = new_job(4)
    job.write_config({"db0": (DSN, "")})
    send_aged(job, 0, 5, 4, 3, 2)
    send_aged(job, 1, 7)
    send_in_a_transaction(job, 3)
    commit(job, p0=1, p3=1)
    instance = job.start()
    job.wait_until(shows(instance, {0: 3, 1: 1, 2: 0, 3: 0}, {0: 4, 1: 7, 2: 0, 3: 0}))
    delete_below(job, 0, 3)  # retention passes the watermark
    send_aged(job, 2, 6)
    job.wait_until(shows(instance, {0: 1, 1: 1, 2: 1, 3: 0}, {0: 2, 1: 7, 2: 6, 3: 0}))
    assert instance.stop() == 0


def test_a_database_that_stops_and_comes_back(new_job: JobFactory, stoppable: Postgres) -> None:
    job = new_job(1)
    job.write_config({"db0": (stoppable.dsn, "")})
    send_aged(job, 0, 9, 8)
    instance = job.start()
    job.wait_caught_up()
    job.wait_until(shows(instance, {0: 0}, {0: 0}))
    stoppable.stop()
    send_aged(job, 0, 5, 4)
    job.wait_until(shows(instance, {0: 2}, {0: 5}))  # fetched, and waiting here
    instance.kill()
    successor = job.start()
    job.wait_until(shows(successor, {0: 2}, {0: 5}))  # in Kafka, and not fetched
    stoppable.start()
    job.wait_caught_up()
    job.wait_until(shows(successor, {0: 0}, {0: 0}))
    assert successor.stop() == 0
