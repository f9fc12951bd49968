"""What is joined here is split by Postgres into what it was; see also tests/integration/test_sink.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.postgres.sink.packing import NULL, SEPARATOR, packed, unpacked


def split(text: str, separator: str, null: str) -> list[str | None]:
    """As ``string_to_array`` does, and the case around it."""
    return [None if part == null else part for part in text.split(separator)]


_tricky = st.text(alphabet=[SEPARATOR, NULL, "a"], max_size=4)


@given(st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.none() | _tricky, min_size=n, max_size=n), min_size=1, max_size=3
    )
))  # fmt: skip
def test_any_text_comes_back(columns: list[list[str | None]]) -> None:
    separator, null, *texts = packed(columns)
    assert [split(text, separator, null) for text in texts] == columns


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, -2], ["1", "-2"]),
        ([1.5, 2, None], ["1.5", "2", None]),
        ([True, False], ["true", "false"]),
        ([1e300, 0.1], ["1e+300", "0.1"]),
    ],
)
def test_other_values_are_written_as_postgres_reads_them(values: list[Any], texts: Any) -> None:
    separator, null, text = packed([values])
    assert split(text, separator, null) == texts


def test_the_usual_separator_is_one_character() -> None:
    assert packed([["a", "b"], [1, None]]) == ("\x1f", "\x1e", "a\x1fb", "1\x1f\x1e")


def test_each_array_is_split_by_the_first_two_parameters() -> None:
    assert unpacked(["bigint", "text"], 7) == (
        "(case $9 when '' then array[''] else string_to_array($9, $7, $8) end)::bigint[], "
        "(case $10 when '' then array[''] else string_to_array($10, $7, $8) end)::text[]"
    )
