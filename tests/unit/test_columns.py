"""How a column's values travel, and the two ways in which its merge is said."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.model import ColumnConfig
from pipeline.config.model import Merge as MergeName
from pipeline.postgres.sink.arrays import array_of
from pipeline.postgres.sink.columns import converted, quote, sink_column
from pipeline.postgres.sink.merges import MERGES
from pipeline.postgres.sink.values import as_text, decimal
from tests.support.tables import catalog_column


def column(base: str, merge: str = "last", source: str = "c", *, key: bool = False) -> Any:
    config = ColumnConfig(name="c", source=source, merge=merge)  # type: ignore[arg-type]
    return sink_column(config, catalog_column("c", base), key=key)


def sent(base: str, value: Any, merge: str = "last", source: str = "c") -> tuple[str, Any]:
    """The array's type, and what is in it."""
    made = column(base, merge, source)
    (value,) = made.values([converted(made, value)])
    return made.array, value


@pytest.mark.parametrize(
    ("base", "value", "array", "in_it"),
    [
        ("int2", 5, "smallint", 5),
        ("int4", 5, "integer", 5),
        ("int8", 5, "bigint", 5),
        ("float4", 1.5, "real", 1.5),
        ("float8", 1, "double precision", 1),
        ("bool", True, "boolean", True),
        ("text", "a", "text", "a"),
        ("text", 1.5, "text", "1.5"),
        ("text", True, "text", "true"),
        ("text", {"a": [1]}, "text", '{"a":[1]}'),
        ("numeric", "1.10", "text", "1.10"),
        ("uuid", "X", "text", "X"),
        ("jsonb", {"a": None}, "text", '{"a":null}'),
        ("jsonb", "text", "text", '"text"'),
        ("json", [1], "text", "[1]"),
        ("_text", ["a", None, 'q"\\'], "text", '{"a",NULL,"q\\"\\\\"}'),
        ("_int4", [[1], [2]], "text", '{{"1"},{"2"}}'),
        ("_text", "{a,b}", "text", "{a,b}"),
    ],
)
def test_what_is_sent(base: str, value: Any, array: str, in_it: Any) -> None:
    assert sent(base, value) == (array, in_it)


@pytest.mark.parametrize(
    ("base", "merge", "value", "array", "in_it"),
    [
        ("int4", "max", "5", "bigint", 5),
        ("int4", "last", "5", "text", "5"),
        ("float8", "add", "1.5", "double precision", 1.5),
        ("bool", "last", "true", "text", "true"),
        ("timestamptz", "max", "2026-01-01", "text", "2026-01-01 00:00:00+00:00"),
    ],
)
def test_a_header_is_text_whatever_was_meant(
    base: str, merge: str, value: str, array: str, in_it: Any
) -> None:
    assert sent(base, value, merge, "@header:h") == (array, in_it)


@pytest.mark.parametrize(
    ("base", "value", "in_it"),
    [
        ("timestamptz", "2026-01-01T00:00:00", "2026-01-01 00:00:00+00:00"),
        ("timestamptz", "2026-01-01T00:00:00.5Z", "2026-01-01 00:00:00.500000+00:00"),
        ("timestamp", "2026-01-01T00:00:00+05:00", "2026-01-01 00:00:00"),
        ("date", "2026-01-31", "2026-01-31"),
        ("numeric", 0.1, "0.1"),
    ],
)
def test_what_is_compared_is_parsed(base: str, value: Any, in_it: str) -> None:
    assert sent(base, value, "max") == ("text", in_it)


def test_the_configuration_names_the_rules_of_the_table() -> None:
    assert set(get_args(MergeName)) == set(MERGES)


@pytest.mark.parametrize("merge", MERGES)
@given(values=st.lists(st.none() | st.integers(-5, 5), min_size=3, max_size=3))
def test_folds_are_associative(merge: str, values: list[int | None]) -> None:
    fold = MERGES[merge].fold
    a, b, c = ({"k": v} if merge == "jsonb" and v is not None else v for v in values)
    assert fold(fold(a, b), c) == fold(a, fold(b, c))


@pytest.mark.parametrize("merge", sorted(MERGES.keys() - {"last"}))
def test_null_changes_nothing_but_under_last(merge: str) -> None:
    value = {"a": 1} if merge == "jsonb" else 1
    assert MERGES[merge].fold(value, None) == MERGES[merge].fold(None, value) == value
    assert MERGES[merge].fold(None, None) is None


def test_last_takes_null() -> None:
    assert MERGES["last"].fold(1, None) is None


def test_every_merge_has_its_types_and_its_sql() -> None:
    for merge in MERGES.values():
        for base in merge.suits or {"text", "int4", "jsonb"}:
            assert "excluded" in column(base, merge.name).merged("t", "excluded")


def test_text_is_compared_as_python_compares_it() -> None:
    assert 'collate "C"' in column("text", "max").merged("t", "excluded")
    assert "collate" not in column("int4", "max").merged("t", "excluded")


@pytest.mark.parametrize("base", ["varchar", "text"])
def test_text_is_not_cast_because_a_cast_cuts_it(base: str) -> None:
    assert column(base).selected() == 'u."c"'


def test_char_n_is_cast_without_its_length() -> None:
    """Compared as text, a padded key would be another; cast to ``char(n)``, it would be cut."""
    assert column("bpchar").selected() == 'u."c"::bpchar'


def test_other_types_are_cast() -> None:
    assert column("uuid").selected() == 'u."c"::uuid'
    assert column("int8").selected() == 'u."c"'


def test_names_are_quoted() -> None:
    assert quote('a"b') == '"a""b"'


@given(st.decimals(allow_nan=False, allow_infinity=False).filter(lambda d: abs(d.adjusted()) < 900))
def test_decimals_keep_every_digit(number: Any) -> None:
    assert decimal(str(number)) == number


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])) | st.integers()))
def test_arrays_quote_their_elements(values: list[Any]) -> None:
    text = array_of(as_text)(values)
    assert text[0] + text[-1] == "{}"
    assert text.count("NULL") >= sum(value is None for value in values)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_text_of_an_array_is_looked_at_element_by_element(values: list[str]) -> None:
    seen: list[str] = []

    def element(value: Any) -> str:
        seen.append(value)
        return str(value)

    text = array_of(as_text)(values)
    assert array_of(element)(text) == text
    assert seen == values


def test_text_of_numbers_and_words() -> None:
    assert [as_text(value) for value in (1, 1.0, False, [1, "a"])] == [
        "1",
        "1.0",
        "false",
        '[1,"a"]',
    ]
