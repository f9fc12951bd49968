from enum import IntEnum
from typing import Any

HeartbeatRequest: Any

class IsolationLevel(IntEnum):
    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1

class OffsetSpec(IntEnum):
    LATEST = -1
    EARLIEST = -2

class OffsetResetStrategy:
    NONE: int

class FetchRequest:
    topics: list[Any]
    forgotten_topics_data: list[Any]
    _max_version: int | None
    def __init__(self, **fields: Any) -> None: ...
