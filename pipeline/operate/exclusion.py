"""One replay or drop at a time, on the whole cluster.

Whoever settles dead letters is the only member of a consumer group that exists for nothing else, and
reads nothing in it. Kafka frees the place of a process that was killed when its session times out.

- Before joining, members are looked for: where there is one, nothing is joined, so that whoever is at
  work is not even disturbed by a rebalance.
- After joining, they are looked for again. Of two that joined at once, at least the later one finds
  the other and leaves; perhaps both do.
- Before each chunk of work the broker is asked whether the membership still holds. It does not in a
  process that stood still for longer than the session: another one may be at work by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

from kafka import KafkaConsumer

from pipeline.errors import PipelineError
from pipeline.kafka.options import connection_options
from pipeline.operate.cluster import Cluster

SESSION_MS = 10_000
"""Where the configuration says nothing: by Kafka's defaults, brokers take from 6 s on."""

DAY_MS = 24 * 3600 * 1000
JOIN_SECONDS = 30.0
"""By its default a broker waits for 3 s for further members of a new group."""

CLOSE_SECONDS = 5.0
POLL_SECONDS = 0.25

Check = Callable[[], None]
"""Raises `PipelineError` where others are not kept away any more."""


def group_of(cluster: Cluster, topic: str) -> str:
    """The group whose only member settles this group's dead letters on a topic."""
    return f"{cluster.kafka.group_id}.{topic}"


@contextmanager
def alone(cluster: Cluster, topic: str) -> Iterator[Check]:
    """Keep other replays and drops of the same dead letters away for as long as this lasts.

    Raises:
        PipelineError: another is at work, there is no such topic, or Kafka gives no membership.
    """
    cluster.partitions(topic)
    group = group_of(cluster, topic)
    session = int(cluster.kafka.options.get("session_timeout_ms", SESSION_MS))
    _refuse(cluster, topic, cluster.members(group), session)
    client_id = f"{cluster.client_id}.{uuid4().hex[:8]}"
    consumer = KafkaConsumer(
        **connection_options(cluster.kafka, client_id, KafkaConsumer.DEFAULT_CONFIG),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        session_timeout_ms=session,
        heartbeat_interval_ms=session // 4,
        max_poll_interval_ms=DAY_MS,  # it is not polled while the work is done
        request_timeout_ms=int(CLOSE_SECONDS * 1000),
    )
    with closing(consumer):
        member = _join(consumer, cluster, topic, client_id, session)

        def check() -> None:
            if member not in cluster.members(group):
                raise PipelineError(
                    f"group {group} has lost this process, which may have stood still: another "
                    "replay or drop may be at work. What was done until now is marked; see what "
                    "waits with: pipeline dlq list"
                )

        yield check


def _join(
    consumer: KafkaConsumer, cluster: Cluster, topic: str, client_id: str, session: int
) -> str:
    """Become the group's only member; its id."""
    group = group_of(cluster, topic)
    consumer.subscribe([topic])
    # Known before the join: kafka-python 3.0.12 loses a join that new metadata caused and that ends
    # between two polls.
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
            f"{topic} ({', '.join(sorted(others.values()))}): nothing was done. Let it end; if it was "
            f"killed, Kafka forgets it within {session / 1000:.0f} s"
        )
