"""Secrets in a configuration, as they may be shown: no log and no message shows a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def hide_password(dsn: str) -> str:
    """Return a DSN with ``***`` for its password."""
    shown = re.sub(r"(://[^:@/?#]*):.*@", r"\1:***@", dsn)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", shown)


def hide_passwords(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with ``***`` for the values of those that are passwords by their names."""
    return {key: "***" if "password" in key else value for key, value in options.items()}
