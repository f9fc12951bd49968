"""`pipeline ingest` as a process, over real connections, into a real Kafka and on to Postgres."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    unsupported_method,
)

from pipeline.ingest.receipts import decode
from pipeline.local import Servers
from pipeline.local.waiting import wait_until
from pipeline.observe.tracing import links_of
from pipeline.partitioner import partition_for
from pipeline.records.record import Record, TopicPartition
from tests.support import accounts, topics
from tests.support.certificates import Authority
from tests.support.ingest_process import Endpoint, EndpointFactory, Senders
from tests.support.instance import PATIENCE, Instance
from tests.support.pipelines import Job
from tests.support.records import Raw
from tests.support.servers import unique_name

pytestmark = pytest.mark.real


def log_of(endpoint: Endpoint) -> dict[int, list[Any]]:
    return accounts.read_topic(endpoint.bootstrap, endpoint.topic)


def test_a_202_is_in_kafka_where_its_receipt_says(endpoint: Endpoint) -> None:
    endpoint.start()
    topic_id = topics.topic_id(endpoint.bootstrap, endpoint.topic)
    records = [{"app": f"app-{n % 5}", "id": n} for n in range(40)]
    replies = [
        endpoint.post(record, {"idempotency-key": f"k-{record['id']}"}) for record in records
    ]
    batch = endpoint.post(records)
    log = log_of(endpoint)
    receipts = [reply.json["receipt"] for reply in replies]
    receipts += [result["receipt"] for result in batch.json["results"]]
    for record, receipt in zip(records * 2, receipts, strict=True):
        place = decode(receipt)
        assert place.topic_id == topic_id
        found = log[place.partition][place.offset]
        assert json.loads(found.value) == record
        assert found.key == str(record["app"]).encode()
        assert place.partition == partition_for(found.key, 6)
    assert {(reply.status) for reply in [*replies, batch]} == {202}
    keys = [dict(each.headers).get("idempotency-key") for found in log.values() for each in found]
    assert sorted(filter(None, keys)) == sorted(f"k-{n}".encode() for n in range(40))


def test_the_trace_of_a_request_is_what_the_consumer_links_to(endpoint: Endpoint) -> None:
    endpoint.start()
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    sent = {"traceparent": f"00-{trace}-{span}-01", "tracestate": "vendor=1"}
    assert endpoint.post({"app": "a", "id": 1}, sent).status == 202
    assert endpoint.post([{"app": "b", "id": 2}, {"app": "c", "id": 3}], sent).status == 202
    assert endpoint.post({"app": "d", "id": 4}).status == 202
    written = [found for records in log_of(endpoint).values() for found in records]
    assert sorted(len(found.headers) for found in written) == [0, 2, 2, 2]
    records = [
        Record(
            TopicPartition(endpoint.topic, 0), number, Raw(number, headers=found.headers), None, 0
        )
        for number, found in enumerate(written)
    ]
    (link,) = links_of(records, 10)
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (trace, span)
    assert link.context.trace_state.get("vendor") == "1"


def test_a_202_becomes_a_row(job: Job, account_dsn: str, servers: Servers, tmp_path: Path) -> None:
    job.write_config({"db0": (account_dsn, "")}, records='key = "id"')
    endpoint = Endpoint(servers, job.topic, tmp_path)
    text = job.config.read_text()
    endpoint.config.write_text(f'{text}\n[ingest]\nlisten = "127.0.0.1:{endpoint.port}"\n')
    try:
        endpoint.start()
        job.start()
        changes = [json.loads(value or b"") for _, value in accounts.changes(300, 20, seed=1)]
        for at in range(0, 300, 50):
            reply = endpoint.post(changes[at : at + 50])
            assert (reply.status, reply.json["accepted"]) == (202, 50)
        job.wait_caught_up()
        assert accounts.differences(job.log(), account_dsn) == []
        assert endpoint.instances[0].stop() == 0
    finally:
        endpoint.close()


def test_sigterm_answers_what_is_under_way_and_loses_nothing(endpoint: Endpoint) -> None:
    first = endpoint.start()
    with Senders(endpoint, clients=4) as senders:
        senders.wait_for_progress()
        endpoint.start()
        assert first.stop() == 0
        senders.wait_for_progress()
    assert senders.statuses == {202}
    check_accepted(senders, endpoint)
    assert endpoint.instances[1].stop() == 0
    assert "records accepted" in first.output


def check_accepted(senders: Senders, endpoint: Endpoint) -> None:
    """Every 202 is where its receipt says, and each client's records are in the order of sending."""
    log = log_of(endpoint)
    for client, accepted in senders.accepted.items():
        for number, receipt in accepted.items():
            place = decode(receipt)
            value = json.loads(log[place.partition][place.offset].value)
            assert (value["id"], value["n"]) == (client, number)
    for records in log.values():
        numbers: dict[int, list[int]] = {}
        for record in records:
            value = json.loads(record.value)
            numbers.setdefault(value["id"], []).append(value["n"])
        for found in numbers.values():
            assert list(dict.fromkeys(found)) == list(range(max(found) + 1))


def test_several_instances_share_an_address(endpoint: Endpoint) -> None:
    instances = [endpoint.start(), endpoint.start()]
    answered = {instance.pid: 0.0 for instance in instances}

    def both() -> bool:
        endpoint.post({"app": "a", "id": 1})
        text = endpoint.request("GET", "/metrics").body.decode()
        count = next(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("pipeline_ingest_request_seconds_count")
        )
        seen.add(count)
        return len(seen) > 8 and all(instance.running for instance in instances)

    seen: set[float] = set()
    assert wait_until(both, PATIENCE)
    for instance in instances:
        assert instance.stop() == 0
        if "records accepted" in instance.output:
            answered[instance.pid] = 1
    assert all(answered.values())


def test_while_kafka_is_away_requests_are_refused_at_once(
    endpoint: Endpoint, servers: Servers
) -> None:
    instance = endpoint.start()
    assert endpoint.post({"app": "a", "id": 1}).status == 202
    servers.kafka.kill(signal.SIGKILL)
    try:
        assert wait_until(lambda: endpoint.request("GET", "/readyz").status == 503, PATIENCE)
        reply = endpoint.post({"app": "a", "id": 2})
        assert (reply.status, reply.headers["retry-after"]) == (503, "2")
        assert endpoint.request("GET", "/livez").status == 200
    finally:
        servers.kafka.start()
    assert wait_until(lambda: endpoint.request("GET", "/readyz").status == 200, PATIENCE)
    assert endpoint.post({"app": "a", "id": 3}).status == 202
    assert instance.stop() == 0


def test_a_record_larger_than_the_topic_takes_is_told_and_others_are_accepted(
    new_endpoint: EndpointFactory,
) -> None:
    endpoint = new_endpoint(1, max_message_bytes="5000")
    endpoint.start()
    large = {"app": "a", "id": 1, "text": "x" * 6000}
    small = {"app": "a", "id": 2}
    assert endpoint.post(large).status == 413
    reply = endpoint.post([small, large, small])
    assert reply.status == 207
    assert [result["status"] for result in reply.json["results"]] == [202, 413, 202]


def test_tls(endpoint: Endpoint, authority: Authority) -> None:
    certificate = authority.issue("ingest", "127.0.0.1")
    endpoint.start(f'tls_cert = "{certificate.chain}"\ntls_key = "{certificate.key}"')
    endpoint.tls = ssl.create_default_context(cafile=str(authority.ca))
    assert endpoint.post({"app": "a", "id": 1}).status == 202


def test_a_topic_that_is_not_there_ends_it_with_a_message(
    servers: Servers, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    endpoint = Endpoint(servers, unique_name(request), tmp_path)
    endpoint.write_config()
    instance = Instance(endpoint.config, tmp_path / "log", "ingest")
    assert instance.wait() == 1
    (message,) = instance.errors()
    assert f"can't write to the topic {endpoint.topic}" in message


def test_an_address_that_is_taken_ends_it_with_a_message(endpoint: Endpoint) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", endpoint.port))
        taken.listen()
        endpoint.write_config()
        instance = Instance(endpoint.config, endpoint.directory / "log", "ingest")
        assert instance.wait() == 1
    (message,) = instance.errors()
    assert "ingest.listen" in message


@pytest.fixture
def described(new_endpoint: EndpointFactory) -> Endpoint:
    endpoint = new_endpoint()
    schema = {
        "type": "object",
        "required": ["app", "id"],
        "properties": {
            "app": {"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^[a-z0-9]+$"},
            "id": {"type": "integer", "minimum": 1, "maximum": 2**53},
        },
    }
    (endpoint.directory / "schema.json").write_text(json.dumps(schema))
    endpoint.start('schema = "schema.json"\ntokens = "a-token-for-schemathesis"')
    return endpoint


NOT_HERE = [unsupported_method, ignored_auth, negative_data_rejection]
"""Checks that don't fit: they take what is another valid body for a mistake."""

TOKEN = {"authorization": "Bearer a-token-for-schemathesis"}


@pytest.mark.slow
def test_the_openapi_document_tells_the_truth(described: Endpoint) -> None:
    """Whatever is made from the document, or against it, gets an answer that the document has."""
    document = described.request("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    api = schemathesis.openapi.from_dict(document)
    api.config.update(base_url=f"http://127.0.0.1:{described.port}")
    seen: Counter[int] = Counter()
    accepted: set[tuple[int, int]] = set()
    for result in api.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        send_examples(operation.as_strategy(), seen, accepted)
        if operation.body:
            wrong = schemathesis.GenerationMode.NEGATIVE
            send_examples(operation.as_strategy(generation_mode=wrong), seen, accepted)
    assert seen[202] > 20
    assert seen[422] > 20
    assert not [status for status in seen if status >= 500]
    written = {
        (partition, offset)
        for partition, log in log_of(described).items()
        for offset in range(len(log))
    }
    assert accepted == written, "every record that was accepted, and no other"


def places(answer: Any) -> list[tuple[int, int]]:
    """Where an answer of the endpoint says that its accepted records are."""
    told = answer.json() if answer.content else {}
    results = told.get("results", [told]) if isinstance(told, dict) else []
    receipts = [decode(result["receipt"]) for result in results if result.get("receipt")]
    return [(receipt.partition, receipt.offset) for receipt in receipts]


def send_examples(
    cases: st.SearchStrategy[Any], seen: Counter[int], accepted: set[tuple[int, int]]
) -> None:
    """Send cases, and check that the document has each answer."""

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def send(case: Any) -> None:
        answer = case.call(headers=TOKEN)
        case.validate_response(answer, excluded_checks=NOT_HERE)
        seen[answer.status_code] += 1
        if operation_takes_records(case):
            accepted.update(places(answer))

    send()


def operation_takes_records(case: Any) -> bool:
    return bool(case.method == "POST" and case.path == "/v1/records")


def test_slow_clients_hold_up_nobody(endpoint: Endpoint) -> None:
    endpoint.start()
    slow = [endpoint.connection() for _ in range(50)]
    for connection in slow:
        connection.putrequest("POST", "/v1/records")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "100")
        connection.endheaders(b'{"app": ')
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(endpoint.post({"app": "a", "id": 1}).status))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [202] * 10
    for connection in slow:
        connection.close()
