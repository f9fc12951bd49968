from typing import Any

from kafka.future import Future
from kafka.structs import TopicPartition

class ProducerBatch:
    attempts: int
    created: float
    drained: float | None
    produce_future: Future
    records: Any
    topic_partition: TopicPartition
    def __init__(self, tp: TopicPartition, records: Any, now: float | None = None) -> None: ...
