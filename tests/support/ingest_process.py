"""`pipeline ingest` as a process, and clients that send to it over real connections."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pipeline.local import Servers
from pipeline.local.ports import HOST, free_port
from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE, Instance
from tests.support.replies import Reply
from tests.support.servers import TopicFactory

CONFIG = """\
[pipeline]
name = "{topic}"

[kafka]
bootstrap_servers = ["{bootstrap}"]
topics = ["{topic}"]

[records]
key = "id"
tenant = "app"

[sink]
table = "unused"
primary_key = "id"

[sink.columns]
id = "id"

[[shards]]
name = "db0"
dsn = "{dsn}"

[ingest]
listen = "{host}:{port}"
{lines}
"""


class Endpoint:
    """An address where instances listen, and the topic that they write to."""

    def __init__(self, servers: Servers, topic: str, directory: Path) -> None:
        self.topic = topic
        self.bootstrap = servers.bootstrap
        self.port = free_port()
        self.directory = directory
        self.config = directory / "ingest.toml"
        self.instances: list[Instance] = []
        self.tls: ssl.SSLContext | None = None
        self._dsn = servers.dsn

    def write_config(self, lines: str = "") -> None:
        """Write the configuration; ``lines`` are added to [ingest]."""
        self.config.write_text(
            CONFIG.format(
                topic=self.topic, bootstrap=self.bootstrap, dsn=self._dsn,
                host=HOST, port=self.port, lines=lines,
            )
        )  # fmt: skip

    def start(self, lines: str | None = None) -> Instance:
        """Start an instance and return when it takes records."""
        if lines is not None or not self.config.exists():
            self.write_config(lines or "")
        log = self.directory / f"ingest-{len(self.instances)}.log"
        instance = Instance(self.config, log, "ingest")
        self.instances.append(instance)
        taking = wait_until(lambda: "taking records on" in instance.output, PATIENCE)
        assert taking, instance.tail()
        return instance

    def connection(self) -> http.client.HTTPConnection:
        """A connection to one of the instances; not open yet."""
        if self.tls is not None:
            return http.client.HTTPSConnection(HOST, self.port, timeout=PATIENCE, context=self.tls)
        return http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request on a connection of its own."""
        connection = self.connection()
        try:
            return request(connection, method, path, body, headers)
        finally:
            connection.close()

    def post(self, document: object, headers: Mapping[str, str] | None = None) -> Reply:
        """Post records as JSON on a connection of its own."""
        body = json.dumps(document).encode()
        json_type = {"content-type": "application/json"}
        return self.request("POST", "/v1/records", body, {**json_type, **(headers or {})})

    def close(self) -> None:
        """End every instance; their last lines are printed, for pytest to show with a failure."""
        for instance in self.instances:
            instance.kill()
            print(f"--- {instance.log.name}\n{instance.tail()}")


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a request and return its answer."""
    connection.request(method, path, body, dict(headers or {}))
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, found, answer.read())


class Senders:
    """Clients, each on a thread, that send numbered records one after another until they are stopped.

    What is not answered by 202 is sent again, under the same Idempotency-Key, until it is.

    Attributes:
        accepted: client → number → receipt.
    """

    def __init__(self, endpoint: Endpoint, clients: int) -> None:
        self.accepted: dict[int, dict[int, str]] = {client: {} for client in range(clients)}
        self.statuses: set[int] = set()
        self._endpoint = endpoint
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(client,), daemon=True)
            for client in range(clients)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)

    @property
    def count(self) -> int:
        return sum(map(len, self.accepted.values()))

    def wait_for_progress(self, records: int = 100) -> None:
        """Wait until each client has got so many more answers of 202."""
        enough = {client: len(found) + records for client, found in self.accepted.items()}

        def progressed() -> bool:
            return all(len(self.accepted[client]) >= count for client, count in enough.items())

        assert wait_until(progressed, PATIENCE), f"no progress; seen: {self.statuses}"

    def _send(self, client: int) -> None:
        connection = self._endpoint.connection()
        number = 0
        while not self._stopped.is_set():
            body = json.dumps({"app": f"app-{client}", "id": client, "n": number}).encode()
            headers = {
                "content-type": "application/json",
                "idempotency-key": f"{client}-{number}",
            }
            try:
                reply = request(connection, "POST", "/v1/records", body, headers)
            except (OSError, http.client.HTTPException):
                connection.close()
                self._stopped.wait(0.05)
                continue
            self.statuses.add(reply.status)
            if reply.status == 202:
                self.accepted[client][number] = reply.json["receipt"]
                number += 1
            else:
                self._stopped.wait(0.05)
        connection.close()


EndpointFactory = Callable[..., Endpoint]


@pytest.fixture
def new_endpoint(
    servers: Servers, topic: TopicFactory, tmp_path: Path
) -> Iterator[EndpointFactory]:
    """Endpoints: ``new_endpoint(partitions=6)``. Ended with the test."""
    made: list[Endpoint] = []

    def make(partitions: int = 6, **settings: str) -> Endpoint:
        directory = tmp_path / f"endpoint-{len(made)}"
        directory.mkdir()
        endpoint = Endpoint(servers, topic(partitions, **settings), directory)
        made.append(endpoint)
        return endpoint

    yield make
    for endpoint in made:
        endpoint.close()


@pytest.fixture
def endpoint(new_endpoint: EndpointFactory) -> Endpoint:
    """An endpoint on a topic of six partitions; nothing listens yet."""
    return new_endpoint()
