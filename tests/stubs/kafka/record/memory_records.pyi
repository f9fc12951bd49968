from typing import Any

from kafka.record.default_records import DefaultRecordBatch

class MemoryRecords:
    def __init__(self, bytes_data: bytes) -> None: ...
    def next_batch(self) -> DefaultRecordBatch | None: ...

class MemoryRecordsBuilder:
    _builder: Any
    def __init__(
        self,
        magic: int,
        compression_type: int,
        batch_size: int,
        offset: int = 0,
        transactional: bool = False,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
    ) -> None: ...
    def buffer(self) -> bytes: ...
    def close(self) -> None: ...
