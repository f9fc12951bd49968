"""Locks that another program holds on a table or a row, for as long as a test needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from pipeline.local.errors import LocalError
from pipeline.local.postgres import psql


@contextmanager
def locked(dsn: str, lock: str = "lock table accounts") -> Iterator[None]:
    """Hold what a statement locks until the block ends, or until somebody ends that session."""
    held = f"begin; {lock}; select 'held', pg_sleep(600)"

    def hold() -> None:
        with suppress(LocalError):  # it is ended below, or by the test
            psql(dsn, held)

    holder = Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        psql(
            dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where query like '%''held''%' and pid <> pg_backend_pid()",
        )
        holder.join()
