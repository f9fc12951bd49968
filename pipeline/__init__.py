"""Kafka to Postgres, in order by key and exactly once, at the pace that Postgres can bear.

The names below are what a handler is written with; docs/handlers.md tells how. `pipeline.testing`,
which is imported by its own name, calls a handler against a real database.

The names are imported when they are first asked for (PEP 562). Every command imports this package, and
to import Trio and asyncpg along with it would make ``pipeline --help`` ten times as slow, and would let
a signal that comes at the start kill ``pipeline run`` before it can hold signals back.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that types are exact; at run time `__getattr__` imports each from its module
    from pipeline.errors import PipelineError
    from pipeline.postgres.connections.errors import HandlerReject, HandlerRetry
    from pipeline.postgres.handlers.transaction import Transaction
    from pipeline.postgres.sink.packing import packed, unpacked
    from pipeline.records.record import Record

__version__ = "0.1.0"

__all__ = [
    "HandlerReject",
    "HandlerRetry",
    "PipelineError",
    "Record",
    "Transaction",
    "__version__",
    "packed",
    "unpacked",
]

_MODULES = {
    "HandlerReject": "pipeline.postgres.connections.errors",
    "HandlerRetry": "pipeline.postgres.connections.errors",
    "PipelineError": "pipeline.errors",
    "Record": "pipeline.records.record",
    "Transaction": "pipeline.postgres.handlers.transaction",
    "packed": "pipeline.postgres.sink.packing",
    "unpacked": "pipeline.postgres.sink.packing",
}
"""Where each name is defined."""

if not TYPE_CHECKING:  # a type checker that saw it would believe in any name

    def __getattr__(name: str) -> object:
        """Import a public name from its module, once."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, whether imported already or not."""
    return sorted({*globals(), *__all__})
