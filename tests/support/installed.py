"""What the installed libraries have, by name."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any


def owner(place: str) -> Any:
    """What ``module`` or ``module:class`` names."""
    module, _, path = place.partition(":")
    found: Any = import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return found


def has(found: Any, name: str) -> bool:
    """Whether a module or a class has a name, or its methods assign an attribute of that name."""
    if hasattr(found, name):
        return True
    return inspect.isclass(found) and any(
        re.search(rf"\bself\.{name}\b[^=\n]*(?<![=!<>])=(?!=)", _source(base))
        for base in found.__mro__
    )


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # it is Python's own, or compiled
        return ""
