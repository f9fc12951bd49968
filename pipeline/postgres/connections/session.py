"""The settings that every transaction of the pipeline runs under, whatever role, database and pooler say.

Straight to a server they are startup parameters: they cost nothing, and hold for the session. Behind a
pooler that gives each transaction another session they are set at the beginning of each transaction, for
that transaction alone (`Session.at_begin`).

``search_path`` is the one setting that belongs to the database's people: their triggers and handlers name
tables without a schema. It is what role and database say, unless the shard's configuration names it; a
pooler's session that another client has changed does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import attrs

from pipeline.config.model import Config, ShardConfig

OF_SOCKETS = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
"""Settings of a server's connection. Behind a pooler that is the pooler's own: they are left out."""


LATER = {17: {"transaction_timeout": "0"}}
"""Settings by the version that has them first; others would refuse them at the start of a session.

A transaction that is ended by its time-out takes its connection with it: the batch would be tried again
whole, and never be done. Our own time-out for statements cuts it.
"""


def later(version: int) -> dict[str, str]:
    """The settings of `LATER` that a server of this version has."""
    return {
        name: value for first, of in LATER.items() if version >= first for name, value in of.items()
    }


@attrs.frozen
class Session:
    """The settings of every connection. Times in seconds.

    They are pinned whatever role, database and DSN say. Only ``default_transaction_read_only`` is not:
    who set it wants no writes.

    Attributes:
        search_path: None: what the DSN, the role or the database says.
    """

    application_name: str
    statement_timeout: float = 30.0
    lock_timeout: float = 10.0
    connect_timeout: float = 10.0
    synchronous_commit: str = "on"
    search_path: str | None = None

    @classmethod
    def of(cls, config: Config, shard: ShardConfig) -> Self:
        """Return the settings that a configuration asks for on one of its shards."""
        limits = config.limits
        return cls(
            config.pipeline.name,
            limits.statement_timeout,
            limits.lock_timeout,
            synchronous_commit=shard.synchronous_commit,
            search_path=shard.search_path,
        )

    def server_settings(self) -> dict[str, str]:
        """The settings by name, as startup parameters take them."""
        settings = {
            "application_name": self.application_name[:63],
            "timezone": "UTC",  # what a time without an offset means, here as in `values.moment`
            "datestyle": "ISO, MDY",
            "intervalstyle": "postgres",
            "standard_conforming_strings": "on",
            "array_nulls": "on",  # off, the null of an array is the text NULL
            # Under another level the ledger would be read as of before a wait for a lock: what the
            # former owner committed in that time would be applied twice.
            "default_transaction_isolation": "read committed",
            "default_transaction_deferrable": "off",
            "synchronous_commit": self.synchronous_commit,
            # A generic plan that was made while the table was small reads the whole of it for each
            # batch when it has grown, until the table is analyzed. Planning anew costs far less.
            "plan_cache_mode": "force_custom_plan",
            "statement_timeout": str(int(self.statement_timeout * 1000)),
            "lock_timeout": str(int(self.lock_timeout * 1000)),
            "idle_in_transaction_session_timeout": str(int(self.statement_timeout * 2000)),
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }
        if self.search_path is not None:
            settings["search_path"] = self.search_path
        return settings

    def at_begin(self, of_dsn: Mapping[str, str], version: int = 0) -> str:
        """SQL that pins the same, and what a DSN sets, for a transaction that has just begun.

        ``version``: the server's, as in 17; newer ones have more to pin (`LATER`). The isolation level
        comes first: it can't be changed after a query. ``default`` is what role and database say, however
        another client has left the session.
        """
        settings = {**of_dsn, **self.server_settings(), **later(version)}
        pinned = ", ".join(
            f"pg_catalog.set_config({literal(name)}, {literal(value)}, true)"
            for name, value in settings.items()
            if name not in OF_SOCKETS
        )
        path = "" if "search_path" in settings else "set local search_path to default; "
        return (
            f"set transaction isolation level read committed, not deferrable; {path}select {pinned}"
        )


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
