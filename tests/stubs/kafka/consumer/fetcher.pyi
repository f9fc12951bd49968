from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from kafka.consumer.subscription_state import SubscriptionState
from kafka.errors import KafkaError
from kafka.future import Future
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import FetchRequest, IsolationLevel
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.structs import TopicPartition

class RecordTooLargeError(KafkaError): ...

class FetchMetadata:
    def next_close_existing(self) -> FetchMetadata: ...

class FetchSessionHandler:
    next_metadata: FetchMetadata

class Fetcher:
    class PartitionRecords:
        aborted_producer_ids: set[int]
        bytes_read: int
        check_crcs: bool
        fetch_offset: int
        isolation_level: IsolationLevel
        leader_epoch: int
        next_fetch_offset: int
        topic_partition: TopicPartition
        def __init__(
            self,
            fetch_offset: int,
            tp: TopicPartition,
            records: MemoryRecords,
            key_deserializer: Any = None,
            value_deserializer: Any = None,
            check_crcs: bool = True,
            isolation_level: IsolationLevel = ...,
            aborted_transactions: Sequence[Any] | None = None,
            metric_aggregator: Any = None,
            on_drain: Callable[[Fetcher.PartitionRecords], object] = ...,
        ) -> None: ...
        def __bool__(self) -> bool: ...
        def _consume_aborted_transactions_up_to(self, offset: int) -> None: ...
        def _contains_abort_marker(self, batch: DefaultRecordBatch) -> bool: ...
        def _is_batch_aborted(self, batch: DefaultRecordBatch) -> bool: ...
        def _maybe_skip_record(self, record: Any) -> bool: ...
        def _unpack_records(
            self,
            tp: TopicPartition,
            records: Any,
            key_deserializer: Any,
            value_deserializer: Any,
        ) -> Iterator[Any]: ...
        def drain(self) -> None: ...
        def take(self, n: int | None = None) -> list[Any]: ...

    config: dict[str, Any]
    _fetch_futures: Collection[Future]
    _net: NetworkSelector
    _next_partition_records: Fetcher.PartitionRecords | None
    _paused_partition_records: dict[TopicPartition, Fetcher.PartitionRecords]
    _session_handlers: Mapping[Any, FetchSessionHandler]
    _subscriptions: SubscriptionState
    def __init__(self, client: Any, subscriptions: SubscriptionState, **configs: Any) -> None: ...
    def _create_fetch_requests(self) -> Mapping[Any, tuple[FetchRequest, Any]]: ...
    def _handle_fetch_response(
        self, node_id: Any, fetch_offsets: Any, send_time: float, response: Any
    ) -> None: ...
    async def _send_fetches_async(self) -> list[Future]: ...
    def fetched_records(
        self, max_records: int | None = None
    ) -> tuple[dict[TopicPartition, Sequence[Any]], bool]: ...
