"""The ledger's text: multiranges there and back, and the DDL that people run by hand."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts.store import Claim
from pipeline.postgres.ledger import schema
from pipeline.postgres.ledger.lease import Lease, key_of
from pipeline.postgres.ledger.multirange import multirange, parse_multirange
from pipeline.records.ranges import ranges_of
from tests.support.records import SOURCE

TOPIC_ID = UUID(int=7)


@given(st.sets(st.integers(0, 2**62)))
def test_multirange_there_and_back(offsets: set[int]) -> None:
    assert parse_multirange(multirange(offsets)) == ranges_of(offsets)


@given(st.sets(st.integers(0, 40)))
def test_multirange_with_ranges_longer_than_one(offsets: set[int]) -> None:
    assert parse_multirange(multirange(offsets)) == ranges_of(offsets)


def test_multirange_text() -> None:
    assert multirange([]) == "{}"
    assert multirange([8, 1, 2, 3]) == "{[1,4),[8,9)}"
    assert parse_multirange(None) == parse_multirange("{}") == parse_multirange("") == []


def test_a_lease_is_the_fences_parameters() -> None:
    claim = Claim("group", SOURCE, TOPIC_ID)
    assert claim.stream == "group/sessions"
    assert Lease(claim, 3, 9).parameters() == ("group/sessions", TOPIC_ID, 0, 3, 9)


def test_a_topic_made_anew_is_another_key() -> None:
    old, new = (Claim("g", SOURCE, UUID(int=n)) for n in (1, 2))
    assert key_of(old) != key_of(new)


def test_ddl_has_every_migration_and_can_be_repeated() -> None:
    text = schema.ddl()
    assert max(schema.MIGRATIONS) == schema.VERSION
    for version, migration in schema.MIGRATIONS.items():
        assert migration in text
        assert f"values ({version})" in migration
    assert all(made in text for made in schema.EXTRAS.values())
    assert set(schema.EXTRAS) == set(schema.EXTRA_PRIVILEGES)
    creates = [line for line in text.splitlines() if line.startswith("create")]
    assert creates
    assert all("if not exists" in line or "or replace" in line for line in creates)
