"""One replay or drop at a time, on the whole cluster.

A command that replays or drops dead letters is the only member of a consumer group that exists for
this purpose alone, and reads nothing in it. If the process is killed, Kafka removes it from the group
when its session times out.

- Before joining, the command asks for the group's members. If there is one, it does not join, so the
  command that is at work is not disturbed by a rebalance.
- After joining, it asks again. Of two commands that joined at once, at least the later one finds the
  other and leaves; perhaps both do.
- Before each chunk of work it asks the broker whether it still is a member. A process that stood still
  for longer than its session is not: another command may be at work by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

from kafka import KafkaConsumer

from pipeline.errors import PipelineError
from pipeline.kafka.options import reaching_options
from pipeline.operate.cluster import Cluster

SESSION_MS = 10_000
"""Used if the configuration sets none. By default, brokers accept 6 s and more."""

DAY_MS = 24 * 3600 * 1000
JOIN_SECONDS = 30.0
"""By default, a broker waits 3 s for further members of a new group."""

CLOSE_SECONDS = 5.0
POLL_SECONDS = 0.25

Check = Callable[[], None]
"""Raises `PipelineError` if other commands are no longer kept away."""


def group_of(cluster: Cluster, topic: str) -> str:
    """Return the group whose only member replays or drops this group's dead letters on a topic."""
    return f"{cluster.kafka.group_id}.{topic}"


@contextmanager
def alone(cluster: Cluster, topic: str) -> Iterator[Check]:
    """Keep other replays and drops of the same dead letters away while the block lasts.

    Blocks until it is the group's only member, for `JOIN_SECONDS` at most.

    Raises:
        PipelineError: another command is at work, there is no such topic, or Kafka does not let this
            process into the group.
    """
    cluster.partitions(topic)
    group = group_of(cluster, topic)
    session = int(cluster.kafka.options.get("session_timeout_ms", SESSION_MS))
    _refuse(cluster, topic, cluster.members(group), session)
    client_id = f"{cluster.client_id}.{uuid4().hex[:8]}"
    consumer = KafkaConsumer(
        **reaching_options(cluster.kafka, client_id, KafkaConsumer.DEFAULT_CONFIG),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        session_timeout_ms=session,
        heartbeat_interval_ms=session // 4,
        max_poll_interval_ms=DAY_MS,  # the consumer is not polled during the work
        request_timeout_ms=int(CLOSE_SECONDS * 1000),
    )
    with closing(consumer):
        member = _join(consumer, cluster, topic, client_id, session)

        def check() -> None:
            if member not in cluster.members(group):
                raise PipelineError(
                    f"this process is no longer in group {group}, perhaps because it stood still: "
                    "another replay or drop may be at work. What was done so far is marked; to see "
                    "what waits: pipeline dlq list"
                )

        yield check


def _join(
    consumer: KafkaConsumer, cluster: Cluster, topic: str, client_id: str, session: int
) -> str:
    """Become the group's only member; return the member id."""
    group = group_of(cluster, topic)
    consumer.subscribe([topic])
    # Asked for before the join: kafka-python 3.0.12 loses a join that new metadata caused and that
    # ends between two polls.
    consumer.partitions_for_topic(topic)
    deadline = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < deadline:
        consumer.poll(timeout_ms=POLL_SECONDS * 1000)
        members = cluster.members(group)
        others = {m: name for m, name in members.items() if not name.startswith(f"{client_id} ")}
        _refuse(cluster, topic, others, session)
        if members and consumer.assignment():
            (member,) = members
            return member
    raise PipelineError(f"Kafka did not let this process into group {group} in time")


def _refuse(cluster: Cluster, topic: str, others: dict[str, str], session: int) -> None:
    if others:
        raise PipelineError(
            f"another pipeline dlq replay or drop of group {cluster.kafka.group_id} is at work on "
            f"{topic} ({', '.join(sorted(others.values()))}): nothing was done. Wait until it ends; if it "
            f"was killed, Kafka forgets it within {session / 1000:.0f} s"
        )
