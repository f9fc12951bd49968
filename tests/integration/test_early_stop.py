"""A signal that comes before there is anything to drain: a clean end, as one that comes later."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import PATIENCE, Instance
from tests.support.letters import DSN

CONFIG = """\
[pipeline]
name = "early"
[kafka]
bootstrap_servers = ["127.0.0.1:{port}"]
topics = ["early"]
group_id = "early"
[records]
key = "id"
[sink]
table = "public.early"
primary_key = ["id"]
[sink.columns]
id = "id"
[[shards]]
name = "db0"
dsn = "{dsn}"
{more}
"""

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def broker() -> Iterator[socket.socket]:
    """What listens as a broker does, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def config(broker: socket.socket, more: str = "") -> str:
    return CONFIG.format(port=broker.getsockname()[1], dsn=DSN, more=more)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A configuration that is read when somebody writes it."""
    path = tmp_path / "pipeline.toml"
    os.mkfifo(path)
    return path


def signalled_while_loading(fifo: Path, text: str, number: int) -> Instance:
    """An instance that was sent a signal while it read its configuration."""
    instance = Instance(fifo, fifo.with_suffix(".log"))
    with fifo.open("w") as file:  # returns when the instance has opened it too
        instance.signal(number)
        file.write(text)
    return instance


@pytest.mark.parametrize("number", SIGNALS)
def test_while_the_configuration_is_read(fifo: Path, broker: socket.socket, number: int) -> None:
    instance = signalled_while_loading(fifo, config(broker), number)
    assert instance.wait() == 0
    assert not instance.errors()
    assert "Traceback" not in instance.output


def test_mistakes_in_the_configuration_are_told_all_the_same(
    fifo: Path, broker: socket.socket
) -> None:
    instance = signalled_while_loading(fifo, config(broker, "[limit]"), signal.SIGTERM)
    assert instance.wait() == 2
    assert "did you mean" in instance.output


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("rejects", ["", '[errors]\ndead_letter_topic = "early.dlq"'])
def test_while_kafka_does_not_answer(
    tmp_path: Path, broker: socket.socket, rejects: str, number: int
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(config(broker, rejects))
    instance = Instance(path, tmp_path / "instance.log")
    connection, _ = broker.accept()
    with connection:
        instance.signal(number)
        assert instance.wait() == 0
    assert not instance.errors()
    assert "Traceback" not in instance.output
