"""Writes docs/types.md from the table of cases: ``python -m tests.values.document``."""

from __future__ import annotations

from pathlib import Path

from tests.values.table import CASES, Case

PAGE = Path(__file__).parents[2] / "docs" / "types.md"

BEGINNING = """\
# From JSON to Postgres

What becomes of a value, by the column's type. Each row of the table is tried against real servers by
`tests/values`, and this page is written from it (`python -m tests.values.document`).

- Numbers keep their digits on their way to `numeric`, `text` and JSON; `real` and `double precision`
  take the nearest number that they have.
- A number in a column of times is refused unless the column says what it counts:
  `at = { from = "created", unit = "ms" }` with `s`, `ms`, `us`, `ns` or `days`: since 1970 (UTC) for
  `timestamptz`, `timestamp` and `date`, since midnight for `time`, a length for `interval`. What is
  between two microseconds is rounded.
- Words that Postgres would evaluate when it writes (`now`, `today`, `tomorrow`, `yesterday`) are refused.
- Times with `max` or `min`, or in a primary key, are compared here too, as ISO 8601 from year 1 to 9999.
  `infinity`, BC, later years, `24:00`, a leap second and names of time zones are refused there, and taken
  elsewhere. Digits beyond microseconds are rounded as Postgres does.
- `add` on `real` and `double precision` rounds at each step, so the last digits of a sum depend on which
  records came in one batch; on whole numbers and `numeric` it is exact. `check` warns.
- `bytea` wants hex (`\\x48ff`), or base64 with `encoding = "base64"`.
- Values of arrays follow the rules of their elements; a list in a `jsonb[]` is an element. Text is read as
  an array in Postgres's own form, such as `"{1,2}"`; times and bytes in it follow their rules too.
- Ranges are text, such as `"[1,5)"`; times in them follow the rules of times. A list is none.
- A number is refused for bits, UUIDs and addresses of networks, where its digits would mean something
  else. In `money` it is the amount, whatever `lc_monetary` says; text is read by `lc_monetary`.
- Dates such as `01/02/2026` are read month first, whatever `DateStyle` the role or the database has.
- What is longer than `name` (63 bytes) or `"char"` (1) is refused; Postgres would cut it.

## Missing, null, wrong kind

`missing` says what a record does that lacks a field: per sink (`[sink] missing`) and per column
(`{ from = "name", missing = "null" }`); the default is `"keep"`. Inside a null all is null.

| in the record | `missing` | a new row | a stored row (`upsert`, `update`) |
| --- | --- | --- | --- |
| no such field | `"keep"` | the column's default | stays as it is, whatever the merge |
| no such field | `"null"` | null | as an explicit null |
| no such field | `"reject"` | dead letter | dead letter |
| an explicit null | | null | `last`: null; all other merges: stays as it is |
| a value of the wrong kind | | dead letter | dead letter |

A primary key that is missing or null is a dead letter.

## The table

"refused" means that the record becomes a dead letter.

| type | in JSON | options | stored |
| --- | --- | --- | --- |
"""


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _row(case: Case) -> str:
    options = (
        _code(", ".join(f'{k} = "{v}"' for k, v in case.settings.items())) if case.options else ""
    )
    stored = "refused" if case.stored is None else _code(case.stored)
    return f"| {_code(case.type)} | {_code(case.json)} | {options} | {stored} |"


def page() -> str:
    """The page as the table gives it now."""
    return BEGINNING + "\n".join(map(_row, CASES)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
