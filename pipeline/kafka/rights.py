"""Which of Kafka's rights the user of ``[kafka]`` lacks, asked before anything is consumed.

Brokers tell the operations on a topic that a user is granted. Of a group they tell them only if it
exists, so the right to join is asked for by a heartbeat of a member that is in no group: it is refused
in any case, for the one reason or for the other, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import trio
from kafka import KafkaAdminClient
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from kafka.protocol.consumer import HeartbeatRequest

from pipeline.config.model import KafkaConfig
from pipeline.errors import UsageError
from pipeline.kafka.errors import no_permission, unusable
from pipeline.kafka.options import reaching_options

READ, WRITE, ALL = "READ", "WRITE", "ALL"


async def demand_rights(kafka: KafkaConfig, client_id: str) -> None:
    """Ask whether the topics may be read and the group may be joined.

    What Kafka does not tell is taken for granted: consuming will show it.

    A checkpoint. If cancelled, it returns at once; the thread that asks is left behind.

    Raises:
        UsageError: a right is missing (all of them are named), or the password, or the like.
        PipelineError: no broker answers.
    """
    try:
        await trio.to_thread.run_sync(partial(_demand, kafka, client_id), abandon_on_cancel=True)
    except (KafkaError, OSError, ValueError) as error:
        raise unusable(kafka, error) from error


def _demand(kafka: KafkaConfig, client_id: str) -> None:
    admin = KafkaAdminClient(**reaching_options(kafka, client_id, KafkaAdminClient.DEFAULT_CONFIG))
    with closing(admin):
        told = admin.describe_topics(list(kafka.topics))
        missing = [*missing_on_topics(told, READ), *missing_on_group(admin, kafka.group_id)]
    if missing:
        servers = ", ".join(kafka.bootstrap_servers)
        raise UsageError(f"Kafka at {servers} can't be used: {'; '.join(missing)}")


def missing_on_topics(told: Iterable[Mapping[str, Any]], operation: str) -> Iterator[str]:
    """Yield what to grant for each topic on which an operation is not.

    Args:
        told: what `KafkaAdminClient.describe_topics` returned.
        operation: `READ` or `WRITE`.
    """
    for topic in told:
        if not may(topic, operation):
            yield no_permission(operation.title(), "topic", topic["name"])


def may(topic: Mapping[str, Any], operation: str) -> bool:
    """Return whether an operation on a described topic is granted; true if Kafka does not tell."""
    if topic["error_code"]:
        return for_code(topic["error_code"]) is not TopicAuthorizationFailedError
    granted: Sequence[str] | None = topic.get("authorized_operations")
    return not granted or operation in granted or ALL in granted


def missing_on_group(admin: KafkaAdminClient, group: str) -> list[str]:
    """Return what to grant so that a group can be joined; nothing if it can, or if nobody knows."""
    try:
        (coordinator,) = admin._manager.run(admin._find_coordinator_ids, [group]).values()
        request = HeartbeatRequest(group_id=group, generation_id=-1, member_id="")
        answer = admin._manager.run(_send, admin, request, coordinator)
        refused = for_code(answer.error_code) is GroupAuthorizationFailedError
    except GroupAuthorizationFailedError:
        refused = True
    except KafkaError:  # a new cluster has no coordinator yet: whoever joins waits for it
        refused = False
    return [no_permission("Read", "group", group)] if refused else []


async def _send(admin: KafkaAdminClient, request: Any, node: int) -> Any:
    return await admin._manager.send(request, node_id=node)
