"""A DSN taken apart, and the settings of a session as they are sent."""

from __future__ import annotations

import pytest

from pipeline.postgres.connections.address import Address, server_of
from pipeline.postgres.connections.session import Session, literal


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://a:p%40b@h1:5432/d?sslmode=require",
         ["postgresql://a:p%40b@h1:5432/d?sslmode=require"]),
        ("postgresql://a:p%2Cq@h1:1,[::1]:2,h3/d",
         ["postgresql://a:p%2Cq@h1:1/d", "postgresql://a:p%2Cq@[::1]:2/d",
          "postgresql://a:p%2Cq@h3/d"]),
        ("postgresql:///d", ["postgresql:///d"]),
        ("postgresql:///d?host=/run/postgresql",
         ["postgresql:///d?host=/run/postgresql"]),
        ("postgresql:///d?host=h1,h2&port=1,2",
         ["postgresql:///d?host=h1&port=1", "postgresql:///d?host=h2&port=2"]),
        ("postgresql:///d?host=h1,h2&port=7",
         ["postgresql:///d?host=h1&port=7", "postgresql:///d?host=h2&port=7"]),
    ],
)  # fmt: skip
def test_each_host_gets_a_dsn_of_its_own(dsn: str, hosts: list[str]) -> None:
    assert list(Address.parse(dsn).hosts) == hosts


def test_what_the_dsn_sets_on_the_server_is_kept_apart() -> None:
    address = Address.parse(
        "postgresql://h/d?connect_timeout=5&search_path=a%2C%20b&sslmode=require"
    )
    assert address.hosts == ("postgresql://h/d?sslmode=require",)
    assert address.settings == {"search_path": "a, b"}
    assert address.connect_timeout == 5.0


@pytest.mark.parametrize(
    ("dsn", "must_write"),
    [
        ("postgresql://h/d", False),
        ("postgresql://h,i/d", True),
        ("postgresql://h,i/d?target_session_attrs=any", False),
        ("postgresql://h/d?target_session_attrs=read-write", True),
        ("postgresql://h/d?target_session_attrs=primary", True),
    ],
)
def test_of_several_hosts_one_that_takes_writes_is_wanted(dsn: str, must_write: bool) -> None:
    assert Address.parse(dsn).must_write is must_write


@pytest.mark.parametrize(
    ("dsn", "server"),
    [
        ("postgresql://a:p@h:5432/d", "h:5432"),
        ("postgresql://h1:1,h2:2/d", "h1:1,h2:2"),
        ("postgresql:///d?host=/run/postgresql", "/run/postgresql"),
        ("postgresql:///d", "local socket"),
    ],
)
def test_a_server_is_named_without_user_and_password(dsn: str, server: str) -> None:
    assert server_of(dsn) == server


def test_a_password_is_in_no_address_that_is_printed() -> None:
    assert "s3cr3t" not in repr(Address.parse("postgresql://a:s3cr3t@h,i/d"))


def test_the_isolation_level_is_set_before_anything_reads() -> None:
    sql = Session("it's mine", search_path="a").at_begin({"work_mem": "5MB"})
    first, *rest = sql.split("; ")
    assert first == "set transaction isolation level read committed, not deferrable"
    assert len(rest) == 1, "the search path is set, so it is not reset"
    assert "set_config('application_name', 'it''s mine', true)" in rest[0]
    assert "set_config('work_mem', '5MB', true)" in rest[0]
    assert "tcp_keepalives" not in sql


def test_ours_beats_the_dsns_but_for_the_search_path() -> None:
    sql = Session("n").at_begin({"synchronous_commit": "off", "search_path": "theirs"})
    assert "'off'" not in sql.replace("'default_transaction_deferrable', 'off'", "")
    assert "set_config('search_path', 'theirs', true)" in sql
    assert "set local search_path to default" in Session("n").at_begin({})


def test_a_quote_in_a_text_is_doubled() -> None:
    assert literal("o'clock") == "'o''clock'"
