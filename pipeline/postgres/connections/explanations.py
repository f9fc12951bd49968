"""What is told of an error: all that Postgres said, or only what can hold no value of a record."""

from __future__ import annotations

import socket

import asyncpg

from pipeline.errors import one_line
from pipeline.postgres.connections.connector import NoServer
from pipeline.postgres.connections.errors import HandlerFailed, RowError, rule_for, sqlstate_of

_NAMES_ONLY = ("23", "42501", "44")
"""The states whose messages, if they are Postgres's own, name objects and hold no values."""
_RAISED_BY_CODE = ("exec_stmt_raise",)
"""The server's functions that raise what a trigger's own code says, with any state and any text."""


def explain(error: BaseException) -> str:
    """One line: what Postgres said, its SQLSTATE, its detail and its hint."""
    if isinstance(error, HandlerFailed):
        return str(error)
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, FileNotFoundError):
        return "no server's socket is there (no such file)"
    if isinstance(error, socket.gaierror):
        return f"the name of the host is not known ({error.strerror})"
    if isinstance(error, NoServer):
        return str(error)
    sqlstate = sqlstate_of(error)
    if not sqlstate:
        return one_line(error)
    # asyncpg puts detail and hint on lines of their own; `message` is what comes before them.
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    text = " ".join(text.split("\n"))
    more = (getattr(error, "detail", None), getattr(error, "hint", None))
    return f"{text} ({'; '.join([f'SQLSTATE {sqlstate}', *filter(None, more)])})"


def explain_without_values(error: BaseException) -> str:
    """Like `explain`, but with nothing that may hold a value of a record.

    What Postgres itself says of a violated constraint or of a missing permission has names only, so it
    is kept; any other message may quote the value. Detail and hint may quote the row.
    """
    if isinstance(error, RowError | HandlerFailed):
        return error.without_values
    sqlstate = sqlstate_of(error)
    if isinstance(error, asyncpg.DataError) and not sqlstate:
        return "a value does not fit its type"
    if not sqlstate:
        return explain(error)
    raised = getattr(error, "server_source_function", None) in _RAISED_BY_CODE
    if sqlstate.startswith(_NAMES_ONLY) and not raised:
        text = getattr(error, "message", None) or str(error) or rule_for(sqlstate).reason
    else:
        text = rule_for(sqlstate).reason
    fields = ("table", "column", "constraint", "data_type")
    names = [
        f"{field.replace('_', ' ')} {name}"
        for field in fields
        if (name := getattr(error, f"{field}_name", None))
    ]
    return f"{text} ({'; '.join([f'SQLSTATE {sqlstate}', *names])})"


def entry_problem(shard: str, server: str, error: BaseException) -> str:
    """What is wrong with a shard's address, in the words of every command."""
    return f"shards[{shard}].dsn: {server} can't be used: {explain(error)}"
