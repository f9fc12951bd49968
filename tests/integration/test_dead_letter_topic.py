"""The dead letter topic on real brokers: what it refuses, and that it heals."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError
from pipeline.kafka.dead_letters import DeadLetterTopic
from pipeline.local import Servers
from pipeline.local.waiting import wait_until
from pipeline.operate.deadletters import parse
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record
from tests.support import accounts
from tests.support.acls import Acls
from tests.support.instance import PATIENCE
from tests.support.records import SOURCE, Raw
from tests.support.secured_kafka import SecuredKafka
from tests.support.servers import TopicFactory
from tests.support.topics import set_topic_config

pytestmark = pytest.mark.real

REASON = DeadLetterReason("no", "Error")


def kafka_config(bootstrap: list[str], **options: Any) -> KafkaConfig:
    return KafkaConfig(
        bootstrap_servers=tuple(bootstrap), topics=("t",), group_id="g", options=options
    )


def letter(offset: int, **raw: Any) -> Record:
    made = Raw(**{"offset": offset, "key": b"k", "value": b"v", **raw})
    return Record(SOURCE, offset, made, None, "k")


def kept(bootstrap: str, topic: str) -> dict[int, Any]:
    """Offset → dead letter; each is there once."""
    (found,) = accounts.read_topic(bootstrap, topic).values()
    by_offset = {int(dict(each.headers)["__connect.errors.offset"]): each for each in found}
    assert len(by_offset) == len(found)
    return by_offset


async def test_what_the_topic_refuses_is_kept_in_a_lesser_form_and_all_others_as_they_are(
    servers: Servers, topic: TopicFactory
) -> None:
    dead = topic(1, max_message_bytes="200000", message_timestamp_after_max_ms="3600000")
    bootstrap = servers.bootstrap
    letters = await DeadLetterTopic.open(kafka_config([bootstrap]), dead, "test", 600)
    ahead = 4_000_000_000_000
    records = [letter(n) for n in range(0, 20)]
    records[3] = letter(3, value=b"v" * 2_000_000)
    records[7] = letter(7, timestamp=ahead)
    records[8] = letter(8, timestamp=0)
    records[9] = letter(9, headers=[("h", b"1" * 300_000)])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for record in records:
                nursery.start_soon(letters.put, record, REASON)
        await letters.close()
    found = kept(bootstrap, dead)
    assert sorted(found) == list(range(20))
    assert {n for n, each in found.items() if each.value != b"v"} == {3, 9}
    for n, timestamp in ((7, ahead), (8, 0)):
        assert found[n].timestamp not in (0, ahead), "retention counts from when it was written"
        assert dict(found[n].headers)["pipeline.timestamp"] == str(timestamp).encode()


async def test_a_compacted_topic_keeps_letters_without_a_key_whole(
    servers: Servers, topic: TopicFactory
) -> None:
    dead = topic(1, cleanup_policy="compact")
    letters = await DeadLetterTopic.open(kafka_config([servers.bootstrap]), dead, "test", 600)
    records = [letter(0, key=None), letter(1), letter(2, key=None, value=None)]
    with trio.fail_after(PATIENCE):
        for record in records:
            await letters.put(record, REASON)
        await letters.close()
    found = {n: parse(SOURCE, each) for n, each in kept(servers.bootstrap, dead).items()}
    assert {n: (each.key, each.value) for n, each in found.items() if each is not None} == {
        record.offset: (record.key, record.value) for record in records
    }


async def test_a_letter_that_is_refused_in_every_form_is_told_and_kept_when_mended(
    servers: Servers, topic: TopicFactory, caplog: pytest.LogCaptureFixture
) -> None:
    dead = topic(1, max_message_bytes="100")
    letters = await DeadLetterTopic.open(kafka_config([servers.bootstrap]), dead, "test", 600)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(letters.put, letter(0), REASON)
            told = partial(wait_until, lambda: letters.waiting == 1, PATIENCE)
            assert await trio.to_thread.run_sync(told)
            assert "raise max.message.bytes of the topic" in caplog.text
            more = partial(set_topic_config, servers.bootstrap, dead, max_message_bytes="1000000")
            await trio.to_thread.run_sync(more)
        await letters.close()
    assert letters.waiting == 0
    assert list(kept(servers.bootstrap, dead)) == [0]
    assert "takes records again" in caplog.text


async def test_the_last_minute_is_counted_after_a_restart(
    servers: Servers, topic: TopicFactory
) -> None:
    dead, config = topic(2), kafka_config([servers.bootstrap])
    for _ in range(2):  # processes
        letters = await DeadLetterTopic.open(config, dead, "test", 6)
        for n in range(3):
            await letters.put(letter(n, key=b"%d" % n), REASON)
        await letters.close()
    letters = await DeadLetterTopic.open(config, dead, "test", 6)
    with pytest.raises(PipelineError, match="more than 6 dead letters within a minute"):
        await letters.put(letter(9), REASON)
    await letters.close()


async def test_a_topic_that_is_missing_is_found_at_the_start_and_not_made(servers: Servers) -> None:
    config = kafka_config([servers.bootstrap])
    for _ in range(2):
        with pytest.raises(PipelineError, match=r"topic no\.such\.dlq does not exist: create it"):
            await DeadLetterTopic.open(config, "no.such.dlq", "test", 600)


async def test_rights_that_are_missing_are_named_and_heal_when_granted(
    secured_kafka: SecuredKafka, acls: Acls, caplog: pytest.LogCaptureFixture
) -> None:
    secured_kafka.create_topic("rights.dlq")
    options = secured_kafka.options("sasl_plaintext", "PLAIN")
    bootstrap = options.pop("bootstrap_servers")
    assert isinstance(bootstrap, list)
    config = kafka_config(bootstrap, **options)
    acls.grant("app", "DESCRIBE", "READ", topic="rights.dlq")
    with pytest.raises(PipelineError, match=r"grant Write on topic rights\.dlq"):
        await DeadLetterTopic.open(config, "rights.dlq", "test", 600)
    acls.grant("app", "WRITE", topic="rights.dlq")
    letters = await DeadLetterTopic.open(config, "rights.dlq", "test", 600)
    acls.deny("app", "WRITE", topic="rights.dlq")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(letters.put, letter(n), REASON)
            told = partial(wait_until, lambda: "grant Write" in caplog.text, PATIENCE)
            assert await trio.to_thread.run_sync(told)
            await trio.to_thread.run_sync(lambda: acls.revoke("app", "WRITE"))
            await trio.to_thread.run_sync(lambda: acls.grant("app", "WRITE", topic="rights.dlq"))
    await letters.close()
    assert sorted(kept(secured_kafka.bootstrap, "rights.dlq")) == [0, 1, 2]
