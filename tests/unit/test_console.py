"""What the operating commands read from and show to a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.operate import console
from pipeline.operate.moments import parse_moment

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T10:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01T12:00+02:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01T10:00Z", datetime(2026, 5, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_time_or_an_age(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@given(st.one_of(st.text(), st.from_regex(r"\A\d+[smhd]\Z")))
def test_a_text_that_is_no_moment_is_explained(text: str) -> None:
    try:
        assert parse_moment(text, NOW).tzinfo is not None
    except ValueError as error:
        assert "expected a time such as" in str(error)  # noqa: PT017 (either is right)


@given(
    st.lists(
        st.tuples(
            st.text("ab", max_size=9), st.text("cd ", max_size=9), st.text("ef\n", max_size=200)
        ),
        min_size=1,
    )
)
def test_a_table_fits(rows: list[tuple[str, str, str]]) -> None:
    lines = console.table(rows, right=(0,))
    assert len(lines) == len(rows)
    assert all(len(line) <= 80 and "\n" not in line for line in lines)


@given(st.lists(st.lists(st.text("abc", max_size=60), min_size=4, max_size=4), min_size=1))
def test_a_table_cuts_any_column_and_loses_no_row(rows: list[list[str]]) -> None:
    lines = console.table(rows, columns=78)
    assert len(lines) == len(rows)
    assert max(map(len, lines)) <= 78


def test_a_table_is_plain_text_also_where_the_terminal_has_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "20")
    rows = [("partition", "lag", "note"), ("[b]s-0[/b]", "1200", "a\nb"), ("s-10", "7", "")]
    assert console.table(rows, right=(1,)) == [
        "partition    lag  note",
        "[b]s-0[/b]  1200  a b",
        "s-10           7",
    ]


def test_the_widest_column_of_a_table_is_cut() -> None:
    rows = [("key", "reason"), ("a-1", "x" * 100)]
    assert console.table(rows, columns=20) == ["key  reason", "a-1  " + "x" * 14 + "…"]


@given(st.text("abc", max_size=60), st.integers(5, 30))
def test_a_cut_name_keeps_both_ends(text: str, width: int) -> None:
    found = console.cut_middle(text, width)
    assert len(found) == min(len(text), width)
    assert (found[:1], found[-1:]) == (text[:1], text[-1:])


def test_durations() -> None:
    texts = [console.duration(n) for n in (0.34, 59.94, 200, 18_720, 183_600)]
    assert texts == ["0.3s", "59.9s", "3m 20s", "5h 12m", "2d 3h"]


def test_one_is_not_several() -> None:
    """It said "1 records", and "(1 partitions)"."""
    assert [console.counted(n, "other record") for n in (0, 1, 2)] == [
        "0 other records", "1 other record", "2 other records"
    ]  # fmt: skip


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "expected"), [("y\n", True), ("\n", False), ("no\n", False)])
def test_a_question_wants_a_yes(
    monkeypatch: pytest.MonkeyPatch, answer: str, expected: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert console.confirmed("Go on?", yes=False) is expected


def test_without_a_terminal_a_question_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    with pytest.raises(PipelineError, match="--yes"):
        console.confirmed("Go on?", yes=False)
    assert console.confirmed("Go on?", yes=True)
