from typing import Any

from kafka.future import Future

class FutureRecordMetadata(Future):
    def get(self, timeout: float | None = None) -> Any: ...
