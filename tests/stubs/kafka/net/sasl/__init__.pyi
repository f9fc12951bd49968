from collections.abc import Mapping
from typing import Any

SASL_MECHANISMS: Mapping[str, Any]
