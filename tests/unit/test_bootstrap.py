"""Which bootstrap server is begun with, and what is said of the others."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError, UsageError
from pipeline.kafka import bootstrap
from pipeline.kafka.bootstrap import unusable_servers, usable_servers
from pipeline.kafka.errors import NoServerError, in_words, unusable
from pipeline.kafka.handshake import AwayError, RefusedError, shake_hands
from pipeline.kafka.topic_writer import TopicWriter
from pipeline.local.ports import free_port

REASONS = {
    "away:1": AwayError("no answer within 3 s"),
    "gone:1": AwayError("nothing listens there (connection refused)"),
    "tls:1": RefusedError("it speaks TLS at that port"),
}


def config(*servers: str, **options: str) -> KafkaConfig:
    return KafkaConfig(servers, ("t",), "g", options)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers that were asked, in order; those of `REASONS` can't be used."""
    servers: list[str] = []

    def ask(server: str, *_: object) -> None:
        servers.append(server)
        if server in REASONS:
            raise REASONS[server]

    monkeypatch.setattr(bootstrap, "shake_hands", ask)
    monkeypatch.setattr(bootstrap, "_answered", {})
    return servers


def test_the_first_server_that_answers_is_taken_and_the_others_are_named(
    asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert usable_servers(config("away:1", "good:1", "better:1")) == ("good:1",)
    assert asked == ["away:1", "good:1"]
    (told,) = caplog.messages
    assert "away:1 can't be used: no answer within 3 s; good:1 answers" in told


def test_a_server_that_hangs_is_waited_for_once(asked: list[str]) -> None:
    kafka = config("away:1", "good:1")
    usable_servers(kafka)
    usable_servers(kafka)
    assert asked == ["away:1", "good:1", "good:1"]


def test_each_server_is_asked_if_all_are_to_be_told(asked: list[str]) -> None:
    kafka = config("good:1", "away:1", "gone:1")
    assert list(unusable_servers(kafka)) == ["away:1", "gone:1"]
    assert len(asked) == 3


def test_behind_a_proxy_only_kafka_python_knows_the_way(asked: list[str]) -> None:
    assert usable_servers(config("a:1", "b:1", proxy_url="socks5://p:1")) == ("a:1", "b:1")
    assert not asked


@pytest.mark.usefixtures("asked")
def test_where_none_can_be_used_each_reason_is_told() -> None:
    kafka = config("away:1", "gone:1")
    with pytest.raises(NoServerError) as raised:
        usable_servers(kafka)
    assert str(unusable(kafka, raised.value)) == (
        "Kafka at away:1, gone:1 can't be used: no broker answers: away:1: no answer within 3 s; "
        "gone:1: nothing listens there (connection refused)"
    )
    assert type(unusable(kafka, raised.value)) is PipelineError


@pytest.mark.usefixtures("asked")
def test_who_is_refused_has_made_a_mistake() -> None:
    kafka = config("tls:1")
    with pytest.raises(NoServerError) as raised:
        unusable_servers(kafka)
    assert type(unusable(kafka, raised.value)) is UsageError
    assert in_words(raised.value) == "it speaks TLS at that port"


def test_nothing_listens() -> None:
    with pytest.raises(AwayError, match="nothing listens there"):
        shake_hands(f"127.0.0.1:{free_port()}", {}, 2)


def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(AwayError, match=r"the name kafka\.invalid does not resolve"):
        shake_hands("kafka.invalid", {}, 2)


def test_a_server_that_accepts_and_says_nothing_is_away() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with pytest.raises(AwayError, match=r"no answer within 0\.2 s"):
            shake_hands(f"127.0.0.1:{silent.getsockname()[1]}", {}, 0.2)


@pytest.mark.usefixtures("asked")
async def test_the_endpoint_tells_it_in_the_same_words() -> None:
    with pytest.raises(UsageError, match=r"Kafka at tls:1 can't be used: it speaks TLS at that"):
        await TopicWriter(config("tls:1"), "t", "test").run()
