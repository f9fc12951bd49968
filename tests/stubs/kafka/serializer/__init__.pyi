from abc import ABC, abstractmethod
from typing import Any

class Serializer(ABC):
    @abstractmethod
    def serialize(self, topic: str, headers: Any, data: Any) -> bytes | None: ...
