"""Rejoins that new metadata causes: partitions that are added, topics that are made, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaConnectionError

from pipeline.kafka.polls import Polls
from pipeline.local import Servers
from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.pipelines import PATIENCE, Job
from tests.support.servers import TopicFactory

pytestmark = pytest.mark.real

METADATA_MS = 100
"""How soon a new partition is seen; Kafka's default is five minutes."""

FIRST, LAST = 6, 9
"""How many partitions there are at first and in the end."""

SESSION_MS = 6000


def add_partitions(servers: Servers, topic: str, total: int) -> None:
    with servers.kafka.admin() as admin:
        admin.create_partitions({topic: total})


def count_partitions(job: Job) -> int:
    """What Kafka says now."""
    job.group.close()
    return len(job.group.partitions())


def events(job: Job) -> list[str]:
    """What the group gave and took, by the instances' logs."""
    lines = [line for instance in job.instances for line in instance.output.splitlines()]
    return [
        line for line in lines if any(f"{e}: " in line for e in ("assigned", "revoked", "lost"))
    ]


def assigned_to(job: Job, partitions: int) -> bool:
    """Whether every instance takes part, and each partition was assigned to one."""
    text = "\n".join(events(job))
    each = all("assigned: " in instance.output for instance in job.instances)
    return each and all(f"{job.topic}-{number}" in text for number in range(partitions))


@pytest.mark.parametrize("instances", [1, 2])
def test_partitions_that_are_added_are_consumed(
    job: Job, servers: Servers, account_dsn: str, instances: int
) -> None:
    """Again and again, and the group is at rest afterwards: nobody is idle, nobody is expelled."""
    job.write_config({"db0": (account_dsn, "")}, kafka=f"metadata_max_age_ms = {METADATA_MS}")
    for _ in range(instances):
        job.start()
    job.wait_until(lambda: assigned_to(job, FIRST))
    for total in range(FIRST + 1, LAST + 1):
        add_partitions(servers, job.topic, total)
        job.wait_until(lambda: count_partitions(job) == total)  # noqa: B023, waited for here
        for number in range(total):  # each key stays in its partition, however many there are
            job.produce([accounts.change(number, total * 10 + n) for n in range(5)], number)
        job.wait_caught_up()
    before = events(job)
    with silent_member(servers, job.topic) as expelled:
        job.wait_until(expelled, "a session is over")
    assert job.group.members() == instances
    job.produce(accounts.change(1000 + n, n) for n in range(200))
    job.wait_caught_up()
    assert events(job) == before, "the group was at rest"
    assert not any("lost: " in line for line in before)
    assert accounts.differences(job.log(), account_dsn) == []
    assert [instance.stop() for instance in job.instances] == [0] * instances


def test_a_topic_that_is_made_later_is_consumed(
    job: Job, servers: Servers, account_dsn: str
) -> None:
    later = f"{job.topic}_later"
    config = job.write_config(
        {"db0": (account_dsn, "")}, kafka=f"metadata_max_age_ms = {METADATA_MS}"
    )
    config.write_text(config.read_text().replace(f'["{job.topic}"]', f'["{job.topic}", "{later}"]'))
    instance = job.start()
    job.wait_until(lambda: assigned_to(job, FIRST))
    servers.create_topic(later, 1)
    try:
        accounts.produce(job.bootstrap, later, [accounts.change(1, n) for n in range(5)])
        job.produce([accounts.change(2, n) for n in range(5)])
        job.wait_until(lambda: {k: v.seen for k, v in stored(account_dsn)} == {1: 5, 2: 5})
        assert instance.stop() == 0
    finally:
        servers.delete_topic(later)


def stored(dsn: str) -> Any:
    return accounts.stored(dsn).items()


class Member:
    """A consumer that is polled only when the test says."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        self.consumer: Any = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            heartbeat_interval_ms=100,
            metadata_max_age_ms=METADATA_MS,
            session_timeout_ms=SESSION_MS,
            partition_assignment_strategy=[CooperativeStickyAssignor],
        )
        self.consumer.subscribe([topic])
        self.coordinator: Any = self.consumer._coordinator
        self.polls = Polls(self.consumer)

    def close(self) -> None:
        self.polls.end()
        self.consumer.close(autocommit=False)


@contextmanager
def members(bootstrap: str, topic: str) -> Iterator[tuple[Member, Member]]:
    """A group of two, at rest: its leader and the other one."""
    with ExitStack() as stack:
        both = [stack.enter_context(closing(Member(bootstrap, topic, topic))) for _ in range(2)]
        reached(lambda: owned(both) == 2 and all(m.consumer.assignment() for m in both), both)
        leader, other = sorted(both, key=lambda m: not m.coordinator._is_leader)
        yield leader, other


@contextmanager
def silent_member(servers: Servers, topic: str) -> Iterator[Callable[[], bool]]:
    """The broker as a clock: has it given up a member of another group that has just gone silent?

    Whoever went silent before is given up then too. Commits count as heartbeats: have none meanwhile.
    """
    group = f"{topic}_silent"
    with closing(Member(servers.bootstrap, topic, group)) as member, servers.kafka.admin() as admin:
        reached(lambda: bool(member.consumer.assignment()), [member])
        member.coordinator._disable_heartbeat()
        yield lambda: not admin.describe_groups([group])[group]["members"]


def owned(group: list[Member]) -> int:
    """How many partitions have an owner in a generation that all members are in."""
    if any(m.coordinator.need_rejoin() or m.coordinator.rejoining for m in group):
        return 0
    return sum(len(member.consumer.assignment()) for member in group)


def reached(condition: Callable[[], bool], polled: list[Member]) -> None:
    """Poll these members until the condition holds."""

    def look() -> bool:
        for member in polled:
            member.polls.poll(0.01)
        return condition()

    assert wait_until(look, PATIENCE)


def test_a_join_that_ends_between_two_polls_is_not_lost(
    servers: Servers, topic: TopicFactory
) -> None:
    """The leader forgets why it joins as it assigns: kafka-python alone would let it be idle."""
    name = topic(2)
    with members(servers.bootstrap, name) as (leader, other):
        add_partitions(servers, name, 4)
        reached(lambda: leader.coordinator._join_task is not None, [leader])
        joining = leader.coordinator._join_task
        reached(lambda: leader.polls._join is None or leader.polls._join.is_done, [])
        assert not joining.is_done, "the leader waits for the other one"
        reached(lambda: bool(joining.is_done), [other])
        reached(lambda: owned([leader, other]) == 4, [leader, other])
        generation = leader.coordinator.generation_if_stable()
        with silent_member(servers, name) as expelled:
            reached(expelled, [leader, other])
        assert owned([leader, other]) == 4, "heartbeats go on"
        assert leader.coordinator.generation_if_stable() == generation


def test_a_join_whose_connection_breaks_before_the_answer_is_begun_again(
    servers: Servers, topic: TopicFactory
) -> None:
    name = topic(2)
    with members(servers.bootstrap, name) as (leader, other):

        def breaks(*_: Any) -> None:
            del leader.coordinator._process_sync_group_response  # the next answer comes
            raise KafkaConnectionError("the connection broke")

        leader.coordinator._process_sync_group_response = breaks
        add_partitions(servers, name, 4)
        reached(lambda: owned([leader, other]) == 4, [leader, other])
        assert leader.coordinator._process_sync_group_response is not breaks
