"""Where instances are: as messages, as they are kept, and as one tells of itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

import attrs
import pytest
import trio
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from trio.testing import MockClock

from pipeline.config.model import KafkaConfig
from pipeline.contracts.presence import (
    FORGET_SECONDS,
    REFRESH_SECONDS,
    Presence,
    Presences,
    TopicState,
    UnreadablePresence,
    decode_presence,
    encode_presence,
    presence_id,
    presence_key,
)
from pipeline.contracts.wish_codec import id_of
from pipeline.contracts.wishes import Wishes
from pipeline.kafka.announcer import RETRY_SECONDS, Announcer
from pipeline.kafka.control_follower import ControlFollower, Update

ME = Presence(
    id="me", owner="web-1", role="run", machine="m1", address="127.0.0.1:9187", loopback=True,
    version="1", since=1000, at=2000,
)  # fmt: skip
OTHER = attrs.evolve(ME, id="other", owner="web-2")


def test_a_presence_survives_its_message_and_fields_of_newer_versions_are_left_out() -> None:
    value = json.loads(encode_presence(ME)) | {"newer": 1}
    assert decode_presence(presence_key("me"), json.dumps(value).encode()) == ME


@pytest.mark.parametrize("value", [b"no", b"[]", b"{}", b'{"owner": 3}'])
def test_a_message_that_is_no_presence_is_told_without_what_it_holds(value: bytes) -> None:
    with pytest.raises(UnreadablePresence, match="instance me"):
        decode_presence(b"instance/me", value)


def test_the_key_of_a_presence_is_of_no_wish() -> None:
    assert presence_id(b"pause/p1") is None
    assert presence_id(b"instance/") is None
    assert presence_id(None) is None
    assert id_of(presence_key("me")) is None


async def test_the_follower_keeps_presences_apart_from_wishes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    presences, wishes = Presences(), Wishes()
    follower = ControlFollower(KafkaConfig(("k:1",), ("t",), "g"), "test", wishes, presences)
    mine, other = presence_key("me"), presence_key("other")
    follower.take(Update({mine: encode_presence(ME), b"instance/odd": b"{}"}, whole=True))
    assert presences.all() == [ME]
    follower.take(Update({other: encode_presence(OTHER), mine: None}, whole=False))
    assert presences.all() == [OTHER]
    assert (wishes.version, presences.topic) == (0, TopicState.FOLLOWED)
    assert [each.message for each in caplog.records] == [
        "g.control: an instance is not shown: instance odd lacks owner, role, machine, address, "
        "loopback, version, since, at"
    ]
    follower.take(Update({}, whole=True, topic=TopicState.ABSENT))
    assert (presences.all(), presences.topic) == ([], TopicState.ABSENT)


@attrs.define
class Topic:
    """What is sent, and what it is answered with."""

    presences: Presences = attrs.field(factory=Presences)
    sent: list[Mapping[bytes, bytes | None]] = attrs.field(factory=list)
    error: Exception | None = None

    async def send(self, messages: Mapping[bytes, bytes | None]) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(messages)
        for key, value in messages.items():
            if value is None:
                self.presences.remove(presence_id(key) or "")
            else:
                self.presences.put(decode_presence(key, value))

    def announcer(self) -> Announcer:
        return Announcer(ME, self.presences, self.send, clock=trio.current_time)


async def test_an_instance_is_told_while_the_topic_is_there_until_its_end(
    autojump_clock: MockClock,  # noqa: ARG001 (asked for to be in force)
) -> None:
    topic = Topic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(topic.announcer().run)
        await trio.sleep(30)
        assert topic.sent == []  # there is no topic, and nothing here makes one
        topic.presences.topic = TopicState.FOLLOWED
        # Between two of them, since at one instant any task is first.
        await trio.sleep(2.5 * REFRESH_SECONDS)
        assert len(topic.sent) == 3
        assert [each.id for each in topic.presences.all()] == ["me"]
        topic.presences.replace([])  # made anew
        await trio.sleep(2 * RETRY_SECONDS)
        assert [each.id for each in topic.presences.all()] == ["me"]
        nursery.cancel_scope.cancel()
    assert topic.sent[-1] == {presence_key("me"): None}


async def test_what_nobody_refreshes_any_more_is_removed() -> None:
    topic = Topic()
    old = attrs.evolve(OTHER, at=int((trio.current_time() - FORGET_SECONDS - 1) * 1000))
    topic.presences.replace([old])
    await topic.announcer().write()
    assert [each.id for each in topic.presences.all()] == ["me"]


@pytest.mark.parametrize(
    ("error", "lines"), [(TopicAuthorizationFailedError("t"), 1), (KafkaTimeoutError("t"), 0)]
)
async def test_a_topic_that_can_not_be_written_is_told_at_most_once_and_ends_nothing(
    error: Exception,
    lines: int,
    autojump_clock: MockClock,  # noqa: ARG001 (asked for to be in force)
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    topic = Topic(error=error)
    topic.presences.topic = TopicState.FOLLOWED
    with trio.move_on_after(100):
        await topic.announcer().run()
    assert [each.levelname for each in caplog.records] == ["WARNING"] * lines
