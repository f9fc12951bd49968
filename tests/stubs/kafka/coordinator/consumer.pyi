from collections.abc import Iterable

from kafka.coordinator.base import BaseCoordinator
from kafka.structs import OffsetAndMetadata, TopicPartition

class ConsumerCoordinator(BaseCoordinator):
    def need_rejoin(self) -> bool: ...
    def fetch_committed_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]: ...
