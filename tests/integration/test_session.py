"""The settings that the pipeline relies on are its own, whatever a database or a role says."""

from __future__ import annotations

import pytest

from pipeline.local.postgres import psql
from pipeline.postgres.connections.bridge import (
    Connection,
    Connections,
    Session,
    cross,
    open_bridge,
)
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

PINNED = {
    "transaction_isolation": ("repeatable read", "read committed"),
    "transaction_deferrable": ("on", "off"),
    "synchronous_commit": ("off", "on"),
    "datestyle": ("German", "ISO, MDY"),
    "intervalstyle": ("iso_8601", "postgres"),
    "standard_conforming_strings": ("off", "on"),
    "array_nulls": ("off", "on"),
    "timezone": ("Asia/Tokyo", "UTC"),
    "statement_timeout": ("7s", "30s"),  # long enough for the statement that pins it
    "lock_timeout": ("7s", "10s"),
    "transaction_timeout": ("7s", "0"),
}
"""What the database says, and what a session of the pipeline has."""

OF_TRANSACTIONS = {"transaction_isolation", "transaction_deferrable"}
"""Those whose default has another name."""


async def test_sessions_are_pinned(database: DatabaseFactory) -> None:
    """Under repeatable read records were applied twice: at a take-over, and after a lost answer."""
    dsn = database()
    name = dsn.rpartition("/")[2]
    for setting, (odd, _) in PINNED.items():
        default = f"default_{setting}" if setting in OF_TRANSACTIONS else setting
        psql(dsn, f"alter database {name} set {default} = '{odd}'")

    async def settings(connection: Connection) -> dict[str, str]:
        return {name: await connection.fetchval(f"show {name}") for name in PINNED}

    connections = Connections(dsn, Session("pinned"))
    async with open_bridge():
        found = await cross(connections.lease, settings)
        await cross(connections.close)
    assert found == {name: ours for name, (_, ours) in PINNED.items()}
