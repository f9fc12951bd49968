from typing import Any

ProduceRequest: Any
