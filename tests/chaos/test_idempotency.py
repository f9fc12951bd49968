"""The endpoint, the broker and the consumer are killed under load: each write is in Postgres once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local import Servers
from pipeline.local.postgres import psql
from tests.support.ingest_process import Endpoint, Senders
from tests.support.pipelines import Job, JobFactory
from tests.support.servers import DatabaseFactory

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.slow]

CLIENTS = 4

SINK = """\
[sink]
table = "writes"
mode = "insert"
[sink.columns]
client = "id"
n = "n"
"""


@pytest.fixture
def dsn(database: DatabaseFactory) -> str:
    """A table without a key: what is applied twice is there twice."""
    made = database()
    psql(made, "create table writes (client int not null, n int not null)")
    return made


@pytest.fixture
def job(new_job: JobFactory, dsn: str) -> Job:
    made = new_job(3)
    records = 'key = "id"\ntenant = "app"\ndedupe_for = "1h"'
    made.write_config({"db0": (dsn, "")}, sink=SINK, records=records)
    return made


@pytest.fixture
def endpoint(job: Job, servers: Servers, tmp_path: Path) -> Iterator[Endpoint]:
    made = Endpoint(servers, job.topic, tmp_path)
    text = f'{job.config.read_text()}\n[ingest]\nlisten = "127.0.0.1:{made.port}"\n'
    job.config.write_text(text)
    made.config.write_text(text)
    yield made
    made.close()


def written(dsn: str) -> Counter[tuple[int, int]]:
    """How often each number of each client is in the table."""
    lines = psql(dsn, "select client, n from writes").splitlines()
    return Counter((int(client), int(n)) for client, n in (line.split("|") for line in lines))


def test_what_clients_send_again_is_in_postgres_once_whatever_is_killed(
    job: Job, endpoint: Endpoint, servers: Servers, dsn: str
) -> None:
    endpoint.start()
    job.start()
    with Senders(endpoint, CLIENTS) as senders:
        senders.wait_for_progress(40)
        job.instances[-1].kill()
        job.start()
        endpoint.instances[-1].kill()
        endpoint.start()
        senders.wait_for_progress(20)
        servers.kafka.kill(signal.SIGKILL)
        job.instances[-1].kill()
        servers.kafka.start()
        job.start()
        senders.wait_for_progress(20)
        endpoint.instances[-1].kill()
        endpoint.start()
        senders.wait_for_progress(20)
    for client in range(CLIENTS):  # a client that has forgotten what it was answered
        again = {"app": f"app-{client}", "id": client, "n": 7}
        assert endpoint.post(again, {"idempotency-key": f"{client}-7"}).status == 202
    job.wait_caught_up()

    found = written(dsn)
    assert set(found.values()) == {1}
    accepted = {(client, n) for client, numbers in senders.accepted.items() for n in numbers}
    assert accepted <= set(found), "every 202 is there"
    unanswered = set(found) - accepted
    assert all(n == len(senders.accepted[client]) for client, n in unanswered), "at most the last"
    in_kafka = sum(map(len, job.log().values()))
    assert in_kafka >= len(found) + CLIENTS, "some were sent more than once"
