"""Fixtures: a real Kafka and Postgres for the session, a topic and a database for the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol
from uuid import uuid4

import pytest
from kafka.errors import UnknownTopicOrPartitionError

from pipeline.local import Servers


class TopicFactory(Protocol):
    """Makes a topic and returns its name. ``settings`` are Kafka's, with _ for . in the names."""

    def __call__(self, partitions: int = 1, **settings: str) -> str: ...


DatabaseFactory = Callable[[], str]
"""Makes a database and returns its DSN."""


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Kafka and Postgres, started when the first test asks. Who breaks them starts them again."""
    with Servers.start() as started:
        yield started


@pytest.fixture
def topic(servers: Servers, request: pytest.FixtureRequest) -> Iterator[TopicFactory]:
    """Topics of this test's own: ``topic(partitions=6, retention_ms="1000")``.

    Records stay for as long as the topic, whatever their timestamps: many here are years old.
    """
    made: list[str] = []

    def make(partitions: int = 1, **settings: str) -> str:
        servers.kafka.start()
        name = unique_name(request)
        given = {key.replace("_", "."): value for key, value in settings.items()}
        options = {"retention.ms": "-1", **given}
        servers.create_topic(name, partitions, options)
        made.append(name)
        return name

    yield make
    servers.kafka.start()
    for name in made:
        with suppress(UnknownTopicOrPartitionError):
            servers.delete_topic(name)


@pytest.fixture
def database(servers: Servers, request: pytest.FixtureRequest) -> Iterator[DatabaseFactory]:
    """Databases of this test's own; whoever is still connected at its end is thrown out."""
    made: list[str] = []

    def make() -> str:
        start_postgres(servers)
        name = unique_name(request)
        dsn = servers.create_database(name)
        made.append(name)
        return dsn

    yield make
    start_postgres(servers)
    for name in made:
        servers.drop_database(name)


def start_postgres(servers: Servers) -> None:
    """Start Postgres where it is ours and was stopped."""
    if servers.owns_postgres:
        servers.postgres.start()


def unique_name(request: pytest.FixtureRequest) -> str:
    """A name for a topic or a database that shows whose it is: the test's, and eight digits."""
    test = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).removeprefix("test_")
    return f"{test[:48].strip('_')}_{uuid4().hex[:8]}"
