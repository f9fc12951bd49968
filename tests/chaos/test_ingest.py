"""The endpoint and its broker are killed under load: every 202 is in Kafka at the end."""

from __future__ import annotations

import json
import signal

import pytest

from pipeline.ingest.receipts import decode
from pipeline.local import Servers
from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.ingest_process import Endpoint, EndpointFactory, Senders
from tests.support.instance import PATIENCE

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.slow]

CLIENTS = 6


@pytest.fixture
def endpoint(new_endpoint: EndpointFactory) -> Endpoint:
    return new_endpoint(3)


def check_nothing_is_lost(senders: Senders, endpoint: Endpoint) -> None:
    """Every 202 is where its receipt says; each client's records appear first in its own order.

    What was never answered is there or not, and what was sent again may be there twice: under the same
    idempotency key, by which a consumer knows it.
    """
    log = accounts.read_topic(endpoint.bootstrap, endpoint.topic)
    for client, accepted in senders.accepted.items():
        for number, receipt in accepted.items():
            place = decode(receipt)
            record = log[place.partition][place.offset]
            value = json.loads(record.value)
            assert (value["id"], value["n"]) == (client, number)
            assert record.headers == [("idempotency-key", f"{client}-{number}".encode())]
    for client, accepted in senders.accepted.items():
        there = [
            json.loads(record.value)["n"]
            for records in log.values()
            for record in records
            if record.key == f"app-{client}".encode()
        ]
        firsts = list(dict.fromkeys(there))
        assert firsts == sorted(firsts)
        assert set(accepted) <= set(firsts)


def test_killing_the_endpoint_loses_no_202(endpoint: Endpoint) -> None:
    endpoint.start()
    with Senders(endpoint, CLIENTS) as senders:
        for _ in range(4):
            senders.wait_for_progress()
            endpoint.instances[-1].kill()
            endpoint.start()
        senders.wait_for_progress()
    check_nothing_is_lost(senders, endpoint)
    assert senders.statuses == {202}


def test_killing_the_broker_loses_no_202(endpoint: Endpoint, servers: Servers) -> None:
    instance = endpoint.start()
    with Senders(endpoint, CLIENTS) as senders:
        for _ in range(3):
            senders.wait_for_progress()
            servers.kafka.kill(signal.SIGKILL)
            away = wait_until(lambda: endpoint.request("GET", "/readyz").status == 503, PATIENCE)
            servers.kafka.start()
            assert away
        senders.wait_for_progress()
    check_nothing_is_lost(senders, endpoint)
    assert senders.statuses <= {202, 503}
    assert instance.stop() == 0


def test_killing_both_loses_no_202(endpoint: Endpoint, servers: Servers) -> None:
    endpoint.start()
    with Senders(endpoint, CLIENTS) as senders:
        for _ in range(2):
            senders.wait_for_progress()
            servers.kafka.kill(signal.SIGKILL)
            endpoint.instances[-1].kill()
            servers.kafka.start()
            endpoint.start()
        senders.wait_for_progress()
    check_nothing_is_lost(senders, endpoint)
    assert senders.statuses <= {202, 503}


def test_freezing_the_endpoint_and_the_broker_loses_no_202(
    endpoint: Endpoint, servers: Servers
) -> None:
    instance = endpoint.start()
    with Senders(endpoint, CLIENTS) as senders:
        senders.wait_for_progress()
        servers.kafka.kill(signal.SIGSTOP)
        assert wait_until(lambda: endpoint.request("GET", "/readyz").status == 503, PATIENCE)
        servers.kafka.kill(signal.SIGCONT)
        senders.wait_for_progress()
        instance.signal(signal.SIGSTOP)
        before = senders.count
        instance.signal(signal.SIGCONT)
        assert wait_until(lambda: senders.count > before, PATIENCE)
    check_nothing_is_lost(senders, endpoint)
    assert instance.stop() == 0
