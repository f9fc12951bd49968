from enum import IntEnum
from typing import Any

HeartbeatRequest: Any

class IsolationLevel(IntEnum):
    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1

class OffsetSpec(IntEnum):
    LATEST = -1
    EARLIEST = -2
