"""Rights on a Kafka cluster: what a user may do, granted and taken back while things run.

A change is in force when the function returns. Every function takes an ``admin`` client of a super user::

    with secured_kafka.admin() as admin:
        grant(admin, "app", "READ", topic="t")
        grant(admin, "app", "READ", group="g")
        deny(admin, "app", "WRITE", topic="t.dlq")       # a denial wins over what is granted
        revoke(admin, "app")                             # everything that was said of the user

The ``acls`` fixture's `Acls` does the same as the super user of ``secured_kafka``, and takes all of
it back when the test ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import NoError

from pipeline.local import Kafka
from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE
from tests.support.secured_kafka import SecuredKafka

CLUSTER = "kafka-cluster"


def grant(
    admin: KafkaAdminClient,
    user: str,
    operation: str,
    *,
    topic: str | None = None,
    group: str | None = None,
) -> None:
    """Allow a user an operation ("READ", "WRITE", "DESCRIBE", "ALL" …) on a topic or group.

    On neither of them: on the cluster ("IDEMPOTENT_WRITE", "CREATE" …).
    """
    _put(admin, user, operation, ACLPermissionType.ALLOW, _resource(topic, group))


def deny(
    admin: KafkaAdminClient,
    user: str,
    operation: str,
    *,
    topic: str | None = None,
    group: str | None = None,
) -> None:
    """Deny a user an operation, whatever else is granted."""
    _put(admin, user, operation, ACLPermissionType.DENY, _resource(topic, group))


def revoke(admin: KafkaAdminClient, user: str, operation: str = "ANY") -> None:
    """Take back all grants and denials of a user, or those of one operation; on everything."""
    anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    chosen = ACLFilter(
        f"User:{user}", None, ACLOperation[operation], ACLPermissionType.ANY, anything
    )
    for _, _, problem in admin.delete_acls([chosen]):
        if problem is not NoError:
            raise problem
    _wait(lambda: not _known(admin, chosen))


def _resource(topic: str | None, group: str | None) -> ResourcePattern:
    if topic is not None:
        return ResourcePattern(ResourceType.TOPIC, topic)
    if group is not None:
        return ResourcePattern(ResourceType.GROUP, group)
    return ResourcePattern(ResourceType.CLUSTER, CLUSTER)


def _put(
    admin: KafkaAdminClient,
    user: str,
    operation: str,
    permission: ACLPermissionType,
    resource: ResourcePattern,
) -> None:
    acl = ACL(f"User:{user}", "*", ACLOperation[operation], permission, resource)
    failed = admin.create_acls([acl])["failed"]
    if failed:
        raise failed[0][1]
    _wait(lambda: acl in _known(admin, acl))


def _known(admin: KafkaAdminClient, chosen: ACLFilter) -> list[ACL]:
    found: list[ACL] = admin.describe_acls(chosen)[0]
    return found


def _wait(in_force: Callable[[], bool]) -> None:
    """Wait for the authorizer: the controller's answer comes before it has heard of the change."""
    assert wait_until(in_force, PATIENCE), "the change of rights is not in force"


@attrs.frozen
class Acls:
    """`grant`, `deny` and `revoke` at one broker."""

    kafka: Kafka

    def grant(
        self, user: str, *operations: str, topic: str | None = None, group: str | None = None
    ) -> None:
        """See `grant`; several operations at once."""
        with self.kafka.admin() as admin:
            for operation in operations:
                grant(admin, user, operation, topic=topic, group=group)

    def deny(
        self, user: str, *operations: str, topic: str | None = None, group: str | None = None
    ) -> None:
        """See `deny`; several operations at once."""
        with self.kafka.admin() as admin:
            for operation in operations:
                deny(admin, user, operation, topic=topic, group=group)

    def revoke(self, user: str, operation: str = "ANY") -> None:
        """See `revoke`."""
        with self.kafka.admin() as admin:
            revoke(admin, user, operation)


@pytest.fixture
def acls(secured_kafka: SecuredKafka) -> Iterator[Acls]:
    """Rights at `secured_kafka`; the user ``app`` has none before the test and none after it."""
    made = Acls(secured_kafka)
    yield made
    secured_kafka.start()
    made.revoke("app")
