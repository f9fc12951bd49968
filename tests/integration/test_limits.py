"""`pipeline limit` on the real Kafka: running endpoints obey it, and one that starts knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local import Servers
from pipeline.local.waiting import wait_until
from tests.support.in_process import Commands
from tests.support.ingest_process import Endpoint
from tests.support.pipelines import JobFactory

pytestmark = pytest.mark.real

LIVE_SECONDS = 5.0
"""What is promised: so long after the command has returned every instance obeys."""

DSN = "postgresql://nobody@127.0.0.1:1/none"
"""Nothing listens there, and nothing may ask."""


class Desk:
    """Endpoints at one address, and the operator's commands."""

    def __init__(self, endpoint: Endpoint, run: Commands) -> None:
        self.endpoint = endpoint
        self.run = run

    def statuses(self, tenant: str, requests: int = 12) -> set[int]:
        """What several requests are answered, each on a connection that any instance may take."""
        record = {"app": tenant, "id": 1}
        return {self.endpoint.post(record).status for _ in range(requests)}


@pytest.fixture
def desk(
    new_job: JobFactory, servers: Servers, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Desk]:
    job = new_job(1)
    job.write_config({"db0": (DSN, "")}, records='key = "id"\ntenant = "app"')
    endpoint = Endpoint(servers, job.topic, tmp_path)
    text = f'{job.config.read_text()}\n[ingest]\nlisten = "127.0.0.1:{endpoint.port}"\n'
    job.config.write_text(text)
    endpoint.config.write_text(text)
    yield Desk(endpoint, Commands(job, capsys))
    endpoint.close()


def test_a_limit_is_obeyed_by_every_endpoint_and_ends_when_it_is_removed(desk: Desk) -> None:
    instances = [desk.endpoint.start(), desk.endpoint.start()]
    assert desk.statuses("app-7") == {202}

    desk.run.run("limit", "add", "--tenant", "app-7", "--rate", "0/s", "--reason", "a loop")
    assert wait_until(lambda: desk.statuses("app-7") == {429}, LIVE_SECONDS)
    refused = desk.endpoint.post({"app": "app-7", "id": 1})
    assert refused.headers["retry-after"] == "60"
    assert desk.statuses("app-8") == {202}, "nobody else notices"
    assert all("may send 0/s, by " in each.output for each in instances)

    for instance in instances:
        assert instance.stop() == 0
    desk.endpoint.start()
    assert desk.statuses("app-7", 1) == {429}, "known before the first record is taken"

    desk.run.run("limit", "remove", "--tenant", "app-7")
    assert wait_until(lambda: desk.statuses("app-7") == {202}, LIVE_SECONDS)
