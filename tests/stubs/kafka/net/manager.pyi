from typing import Any

from kafka.future import Future

class KafkaConnectionManager:
    async def wait_for(self, future: Future, timeout_ms: float | None) -> Any: ...
