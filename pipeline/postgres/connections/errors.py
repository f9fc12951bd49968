"""What an error means for the records that met it: a verdict.

For Postgres's errors, one for each SQLSTATE class; the classes are PostgreSQL's (documentation,
appendix A, "PostgreSQL Error Codes"), and the longest prefix that is listed decides. For what a
handler's own code raises, one by its class; that is no sign of the state of the shard, be it the same
`ConnectionResetError` that a lost connection to Postgres gives.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Iterator, Sequence
from enum import Enum

import asyncpg
import attrs
import trio

from pipeline.postgres.connections.connector import AddressUnreadable
from pipeline.records.record import Record


class Verdict(Enum):
    """What to do with the records of a failed transaction."""

    RETRY = "retry"
    """The server said no, for now: it was rolled back, and the same may succeed later."""

    IN_DOUBT = "in doubt"
    """No answer: it may have been committed. The ledger is asked before it is tried again."""

    REJECT = "reject"
    """A record's own fault: found by halving, and kept among the dead letters."""

    SUSPECT = "suspect"
    """The state does not say whose fault it is: a record's, the schema's or the server's. It is found
    out, by the statement over no rows and by what becomes of the others."""

    STOP = "stop"
    """Nobody's record is at fault: retrying can't help, and rejecting would empty the topic."""


class RowError(Exception):
    """A record can't become a row, as was found before Postgres saw it.

    Args:
        message: a sentence, which may quote a value.
        without_values: the same without any; None: ``message`` has none.
    """

    def __init__(self, message: str, without_values: str | None = None) -> None:
        super().__init__(message)
        self.without_values = message if without_values is None else without_values


class HandlerReject(Exception):
    """Raised by a handler for a record that must go to the dead letters."""


class HandlerRetry(Exception):
    """Raised by a handler for what may succeed later: it is called again.

    Without end, unless ``[errors.retry]`` says for how long.
    """


class HandlerFailed(Exception):
    """A handler's own code raised, as against a statement of its transaction.

    Attributes:
        records: what it was called with.
        error: what it raised; of a nursery's group, the one that weighs most.
    """

    def __init__(self, records: Sequence[Record], error: Exception) -> None:
        self.records = records
        self.error = max(_leaves(error), key=lambda leaf: _WEIGHTS.index(_judge_own(leaf)))
        shown = f"{type(self.error).__name__}: {self.error}".replace("\n", " ")
        place = "" if hasattr(self.error, "without_values") else _place(error)
        super().__init__(f"the handler raised {shown}{place}")
        self.without_values = f"the handler raised {_own_words(self.error, shown, place)}"
        """The same without the error's text, unless that was written to be told."""


@attrs.frozen
class Rule:
    prefix: str
    verdict: Verdict
    reason: str
    smaller: bool = False
    """Whether a smaller batch may do: it takes less time, less memory, or fewer locks."""
    away: bool = False
    """Whether another connection may reach a server that can do it: this one is left."""


RULES = (
    Rule("08", Verdict.IN_DOUBT, "the connection failed, perhaps after the server had committed"),
    Rule("0A", Verdict.SUSPECT, "the server can't do what the statement asks for"),
    Rule("21", Verdict.REJECT, "a statement met one row twice, as of 1 and '1': tried apart"),
    Rule("22", Verdict.REJECT, "a value does not fit its type"),
    Rule("23", Verdict.REJECT, "a constraint refuses the row"),
    Rule("25006", Verdict.RETRY, "the server is read-only, as after a failover", away=True),
    Rule("25P04", Verdict.RETRY, "the transaction took too long", smaller=True),
    Rule("25", Verdict.RETRY, "the transaction's state is wrong"),
    Rule("26", Verdict.RETRY, "the prepared statement is gone: it is prepared again"),
    Rule("28", Verdict.STOP, "the server does not accept the user or the password"),
    Rule("3D", Verdict.STOP, "the database does not exist"),
    Rule("3F", Verdict.STOP, "the schema does not exist"),
    Rule("40003", Verdict.IN_DOUBT, "the server does not know whether the statement completed"),
    Rule(
        "40",
        Verdict.RETRY,
        "rolled back for another transaction's sake (deadlock, serialization)",
        smaller=True,
    ),
    Rule("42", Verdict.SUSPECT, "the statement does not fit the schema, or permission is missing"),
    Rule("44", Verdict.REJECT, "a view's check option refuses the row"),
    Rule("53200", Verdict.RETRY, "the server is out of memory", smaller=True),
    Rule("53400", Verdict.RETRY, "a limit of the server's configuration is exceeded", smaller=True),
    Rule("53", Verdict.RETRY, "the server is out of a resource (connections, memory, disk)"),
    Rule("54", Verdict.REJECT, "the row exceeds one of the server's limits"),
    Rule("55006", Verdict.RETRY, "the object is in use"),
    Rule("55P03", Verdict.RETRY, "a lock was not to be had in time", smaller=True),
    Rule("55", Verdict.SUSPECT, "an object is not in the state that the statement needs"),
    Rule(
        "57014",
        Verdict.RETRY,
        "the statement was cancelled, by its timeout or by an operator",
        smaller=True,
    ),
    Rule("57P01", Verdict.IN_DOUBT, "an administrator ended the connection"),
    Rule("57P02", Verdict.IN_DOUBT, "the server crashed and is recovering"),
    Rule("57P03", Verdict.RETRY, "the server is starting up or shutting down", away=True),
    Rule("57", Verdict.RETRY, "an operator intervened"),
    Rule("58", Verdict.RETRY, "the server's system failed (I/O)"),
    Rule("P0001", Verdict.REJECT, "a trigger or function raised an exception for the row"),
    Rule("P0", Verdict.SUSPECT, "a trigger or function is defective"),
    Rule("XX", Verdict.SUSPECT, "an internal error of the server, or of an extension"),
)
_BY_PREFIX = {rule.prefix: rule for rule in RULES}
_CALL = re.compile("the server expects .* argument|number of query arguments")
_UNKNOWN = Rule("", Verdict.SUSPECT, "an error that the pipeline has no rule for")
_RECOVERING = "recovery is in progress"


def rule_for(sqlstate: str) -> Rule:
    """The rule of the longest prefix of ``sqlstate`` that has one."""
    for length in (5, 2):
        if rule := _BY_PREFIX.get(sqlstate[:length]):
            return rule
    return _UNKNOWN


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that an exception carries, None where it has none."""
    return getattr(error, "sqlstate", None)


_NOT_LET_IN = re.compile("password authentication failed|no such (user|database)|does not exist")
"""What a pooler says, under the state of a broken protocol (08P01), of what the server refused it."""


def refuses_entry(error: BaseException) -> bool:
    """Whether the server does not let us in (a wrong user, password or database), or can't be asked to."""
    if isinstance(error, AddressUnreadable):
        return True
    sqlstate = sqlstate_of(error) or ""
    if sqlstate == "08P01":
        return _NOT_LET_IN.search(str(error)) is not None
    return sqlstate.startswith(("28", "3D"))


def may_be_too_large(error: Exception) -> bool:
    """Whether a smaller batch may go through where this one was refused."""
    return isinstance(error, asyncpg.PostgresError) and rule_for(error.sqlstate or "").smaller


def may_pass(error: Exception) -> bool:
    """Whether a suspect error may pass by itself: an internal one of the server."""
    return (sqlstate_of(error) or "").startswith("XX")


def is_away(error: Exception) -> bool:
    """Whether the server that a connection leads to can't write, and another one may."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    return rule_for(error.sqlstate or "").away or _RECOVERING in str(error)


_OF_FILES = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""What `OSError` is raised for beside networks: to try again would not help."""

_WEIGHTS = (Verdict.RETRY, Verdict.REJECT, Verdict.STOP)


def judge(error: Exception) -> Verdict:
    """The verdict on an exception raised by a transaction.

    asyncpg's client-side errors have no SQLSTATE, or share a class with the server's: a value that
    it can't encode is a `asyncpg.DataError`; a connection that is gone, an `InterfaceError` or an
    `OSError`; its own deadline, a `TimeoutError`. A wrong number of arguments is an `InterfaceError`
    too, told apart by its text alone: a handler's mistake, which would be retried for ever.
    """
    if isinstance(error, HandlerFailed):
        return _judge_own(error.error)
    if isinstance(error, RowError | asyncpg.DataError):
        return Verdict.REJECT
    if refuses_entry(error):
        return Verdict.STOP
    if isinstance(error, asyncpg.InvalidCachedStatementError) or is_away(error):
        return Verdict.RETRY
    if isinstance(error, asyncpg.PostgresError):
        return rule_for(error.sqlstate).verdict if error.sqlstate else Verdict.STOP
    if isinstance(error, asyncpg.InterfaceError) and _CALL.search(str(error)):
        return Verdict.STOP
    if isinstance(error, OSError | asyncio.IncompleteReadError | asyncpg.InterfaceError | EOFError):
        return Verdict.IN_DOUBT  # TimeoutError is an OSError
    if isinstance(error, asyncpg.InternalClientError):
        return Verdict.IN_DOUBT
    return Verdict.STOP


def _judge_own(error: Exception) -> Verdict:
    if isinstance(error, HandlerReject):
        return Verdict.REJECT
    if isinstance(error, HandlerRetry | trio.TooSlowError):
        return Verdict.RETRY
    if isinstance(error, OSError) and not isinstance(error, _OF_FILES):
        return Verdict.RETRY  # ConnectionError and TimeoutError are OSErrors
    return Verdict.STOP


def _own_words(error: Exception, shown: str, place: str) -> str:
    """What may be told of a handler's error, and how to see the rest."""
    if isinstance(error, HandlerReject):
        return shown + place
    name = type(error).__name__
    if told := getattr(error, "without_values", None):
        return f"{name}: {told}"
    if isinstance(error, TypeError) and "unrecognized yield message" in str(error):
        return f"{name}{place}: it awaited what is not Trio's, as of a library for asyncio"
    return f"{name}{place}; [errors] details = true shows what it says, which may hold values"


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _place(error: Exception) -> str:
    """For people: the innermost line of the handler's own module that an exception passed."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is the call of the handler
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
