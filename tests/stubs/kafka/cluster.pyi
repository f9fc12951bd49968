from typing import Any
from uuid import UUID

from kafka.future import Future
from kafka.structs import TopicPartition

class ClusterMetadata:
    config: dict[str, Any]
    def leader_for_partition(self, partition: TopicPartition) -> int | None: ...
    def request_update(self) -> Future: ...
    def topic_id(self, topic_name: str) -> UUID | None: ...
