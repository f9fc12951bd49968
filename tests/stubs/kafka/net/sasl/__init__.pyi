from collections.abc import Mapping
from typing import Any

SASL_MECHANISMS: Mapping[str, Any]

def get_sasl_mechanism(name: str) -> Any: ...
