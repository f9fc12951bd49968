"""`pipeline ingest` under a real systemd, with socket activation."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from pipeline.local.waiting import wait_until
from tests.support.ingest_process import Endpoint
from tests.support.instance import PATIENCE
from tests.support.systemd.deployment import Deployment
from tests.support.systemd.machine import Unit

pytestmark = [pytest.mark.real, pytest.mark.slow]

TOKEN = "a-token-of-some-length"


@pytest.fixture
def socket_unit(deployment: Deployment, endpoint: Endpoint) -> Iterator[Unit]:
    """The socket of an instance, listening on the endpoint's port; the service is not started."""
    unit = deployment.add("web", "", {"tokens": TOKEN}, command="pipeline-ingest")
    configure(deployment, endpoint, "")
    socket = Unit(deployment.machine, "pipeline-ingest@web.socket")
    deployment.machine.write(
        f"/run/systemd/system/{socket.name}.d/port.conf",
        f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{endpoint.port}\n",
    )
    deployment.machine.run("systemctl", "daemon-reload")
    socket.systemctl("start")
    yield socket
    socket.systemctl("stop", check=False)
    unit.systemctl("stop", check=False)


def configure(deployment: Deployment, endpoint: Endpoint, lines: str) -> None:
    """Write the instance's configuration, with more lines in [ingest]; its address is never used."""
    endpoint.write_config('tokens = "${file:${CREDENTIALS_DIRECTORY}/secret_tokens}"\n' + lines)
    text = endpoint.config.read_text().replace(f":{endpoint.port}", ":1")
    deployment.configure("web", text)


def post(endpoint: Endpoint, number: int) -> int:
    """Post a record on a connection of its own; the answer's status."""
    record = {"app": "a", "id": number}
    return endpoint.post(record, {"authorization": f"Bearer {TOKEN}"}).status


class Clients:
    """A client that posts records on connections of their own until it is stopped."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.accepted = 0
        self.others: list[object] = []
        self._endpoint = endpoint
        self._stopped = Event()
        self._thread = Thread(target=self._post, daemon=True)

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def wait_for_more(self, records: int = 50) -> None:
        enough = self.accepted + records
        assert wait_until(lambda: self.accepted >= enough or bool(self.others), PATIENCE)
        assert self.others == []

    def _post(self) -> None:
        while not self._stopped.is_set():
            try:
                status = post(self._endpoint, self.accepted)
            except (OSError, http.client.HTTPException) as error:
                self.others.append(error)
                return
            if status == 202:
                self.accepted += 1
            else:
                self.others.append(status)
                return


def test_the_first_request_starts_the_service_and_a_restart_refuses_none(
    socket_unit: Unit, deployment: Deployment, endpoint: Endpoint
) -> None:
    (service,) = deployment.units
    assert service.show("ActiveState") == "inactive"
    with Clients(endpoint) as clients:
        clients.wait_for_more()
        service.wait("ActiveState", "active")
        assert service.status.startswith("taking records")
        for _ in range(2):
            before = service.pid
            service.systemctl("restart")
            clients.wait_for_more()
            assert service.pid not in (0, before)
        assert service.show("Result") == "success"
    assert "which systemd opened" in service.journal
    assert socket_unit.show("ActiveState") == "active"


def test_an_endpoint_that_stands_still_is_caught_by_the_watchdog_and_replaced(
    socket_unit: Unit, deployment: Deployment, endpoint: Endpoint
) -> None:
    (service,) = deployment.units
    assert post(endpoint, 1) == 202
    service.wait("ActiveState", "active")
    service.signal(signal.SIGSTOP)
    service.wait("NRestarts", "1")
    service.wait("ActiveState", "active")
    assert post(endpoint, 2) == 202
    assert socket_unit.show("ActiveState") == "active"


def test_a_reload_changes_what_clients_may_and_refuses_another_address(
    socket_unit: Unit, deployment: Deployment, endpoint: Endpoint
) -> None:
    (service,) = deployment.units
    assert post(endpoint, 1) == 202
    service.wait("ActiveState", "active")
    before = service.pid
    configure(deployment, endpoint, 'rate_per_tenant = "1/h"')
    service.systemctl("reload")
    assert [post(endpoint, number) for number in (2, 3)] == [202, 429]
    configure(deployment, endpoint, "max_body_bytes = 5")
    assert "failed" in service.systemctl("reload", check=False)
    assert "a restart is needed to change ingest.max_body_bytes" in service.status
    assert service.pid == before
    assert socket_unit.show("ActiveState") == "active"
