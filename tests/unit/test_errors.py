"""Verdicts: what each SQLSTATE, and each error of the client, means for the records that met it."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest
from asyncpg.exceptions import PostgresError

from pipeline.errors import one_line
from pipeline.postgres.connections.errors import (
    RULES,
    RowError,
    Verdict,
    judge,
    rule_for,
    sqlstate_of,
)
from pipeline.postgres.connections.explanations import explain

RETRY, IN_DOUBT, REJECT, STOP = Verdict.RETRY, Verdict.IN_DOUBT, Verdict.REJECT, Verdict.STOP
SUSPECT = Verdict.SUSPECT


def server_error(sqlstate: str, message: str = "no", **fields: str) -> PostgresError:
    """As asyncpg makes it of the server's message."""
    codes = {"C": sqlstate, "M": message, "S": "ERROR", "V": "ERROR", **fields}
    return PostgresError.new(codes)


@pytest.mark.parametrize(
    ("sqlstate", "verdict"),
    [
        ("08000", IN_DOUBT), ("08006", IN_DOUBT), ("08P01", IN_DOUBT),
        ("0A000", SUSPECT),
        ("22001", REJECT), ("22003", REJECT), ("22021", REJECT), ("22P02", REJECT),
        ("23502", REJECT), ("23503", REJECT), ("23505", REJECT), ("23514", REJECT),
        ("25006", RETRY),
        ("26000", RETRY),
        ("28000", STOP), ("28P01", STOP),
        ("3D000", STOP), ("3F000", STOP),
        ("40001", RETRY), ("40P01", RETRY), ("40003", IN_DOUBT),
        ("42501", SUSPECT), ("42703", SUSPECT), ("42P01", SUSPECT), ("42601", SUSPECT),
        ("44000", REJECT),
        ("53000", RETRY), ("53100", RETRY), ("53300", RETRY),
        ("54000", REJECT),
        ("55P03", RETRY), ("55006", RETRY), ("55000", SUSPECT),
        ("57014", RETRY), ("57P01", IN_DOUBT), ("57P02", IN_DOUBT), ("57P03", RETRY),
        ("58030", RETRY),
        ("P0001", REJECT), ("P0002", SUSPECT),
        ("XX000", SUSPECT), ("20000", SUSPECT), ("AB001", SUSPECT),
        ("ZZ999", SUSPECT),
    ],
)  # fmt: skip
def test_verdict_of_the_server(sqlstate: str, verdict: Verdict) -> None:
    assert rule_for(sqlstate).verdict is verdict
    assert judge(server_error(sqlstate)) is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RowError("the primary key (id) is missing or null"), REJECT),
        (asyncpg.DataError("invalid input for query argument $1"), REJECT),
        (asyncpg.InterfaceError("connection is closed"), IN_DOUBT),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle of operation"), IN_DOUBT),
        (asyncpg.InternalClientError("unexpected message"), IN_DOUBT),
        (ConnectionRefusedError(), IN_DOUBT),
        (ConnectionResetError(), IN_DOUBT),
        (BrokenPipeError(), IN_DOUBT),
        (TimeoutError(), IN_DOUBT),
        (asyncio.IncompleteReadError(b"", 5), IN_DOUBT),
        (EOFError(), IN_DOUBT),
        (ValueError("nobody knows"), STOP),
        (KeyError("id"), STOP),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.value,
)
def test_verdict_of_the_client(error: Exception, verdict: Verdict) -> None:
    assert judge(error) is verdict


def test_a_handlers_mistake_in_a_call_of_asyncpg_stops() -> None:
    """To retry it would go on for ever."""
    message = "the server expects 3 arguments for this query, 2 were passed"
    assert judge(asyncpg.InterfaceError(message)) is STOP


def test_two_rows_that_are_one_to_postgres_are_tried_apart() -> None:
    """1 and '1' in a text key: equal to Postgres, not to Python; alone, neither is refused."""
    assert judge(server_error("21000")) is REJECT


def test_every_rule_has_a_reason_and_its_own_prefix() -> None:
    assert all(len(rule.prefix) in (2, 5) for rule in RULES)
    assert all(len(rule.reason) > 10 for rule in RULES)
    assert set(Counter(rule.prefix for rule in RULES).values()) == {1}
    assert rule_for("ZZ999").reason


@pytest.mark.parametrize("sqlstate", ["40003", "55006", "55P03", "57014", "57P01", "P0001"])
def test_the_longest_prefix_decides(sqlstate: str) -> None:
    assert rule_for(sqlstate).prefix == sqlstate


def test_explain_names_the_sqlstate_and_the_detail() -> None:
    error = server_error("23505", "duplicate key", D="Key (id)=(1) already exists.")
    assert explain(error) == "duplicate key (SQLSTATE 23505; Key (id)=(1) already exists.)"
    assert explain(server_error("22003", "out of range")) == "out of range (SQLSTATE 22003)"
    assert explain(KeyError("id")) == "KeyError: 'id'"
    assert explain(FileNotFoundError(2, "No such")) == "no server's socket is there (no such file)"
    assert explain(TimeoutError()) == "TimeoutError"


def test_sqlstate() -> None:
    assert sqlstate_of(server_error("22003")) == "22003"
    assert sqlstate_of(ValueError()) is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("too\n  long"), "ValueError: too long"),
        (ValueError(""), "ValueError"),
        (OSError("OSError: no route"), "OSError: no route"),
    ],
)
def test_an_error_on_one_line_has_the_name_of_its_class_once(error: Exception, text: str) -> None:
    assert one_line(error) == text
