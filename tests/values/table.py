"""What becomes of a JSON value in a column: the table that docs/types.md is written from.

Each row is tried against real servers (`tests.values.test_values`): the value is applied to a row that
does not exist, by the sink as it is. ``stored`` is the column as Postgres prints it; None: the record is
a dead letter.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Case:
    """One value: the column's type as declared, JSON as produced, the column's options, the outcome."""

    type: str
    json: str
    stored: str | None
    options: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """The options as a mapping."""
        return dict(pair.split("=") for pair in self.options.split())


CASES = (
    Case("smallint", "5", "5"),
    Case("smallint", "40000", None),
    Case("integer", "5", "5"),
    Case("integer", "1.0", None),
    Case("integer", '"5"', None),
    Case("integer", "true", None),
    Case("bigint", "9007199254740993", "9007199254740993"),
    Case("bigint", "9223372036854775808", None),
    Case("real", "1.5", "1.5"),
    Case("double precision", "0.1", "0.1"),
    Case("double precision", "1", "1"),
    Case("double precision", '"1.5"', None),
    Case("double precision", "1e400", None),
    Case("numeric", "1.10", "1.10"),
    Case("numeric", '"1.10"', "1.10"),
    Case("numeric", "12345678901234567890.123456789012345678",
         "12345678901234567890.123456789012345678"),
    Case("numeric", "1e3", "1000"),
    Case("numeric", "true", None),
    Case("numeric(10,2)", "0.005", "0.01"),
    Case("numeric(10,2)", "0.005", "0.01", "merge=add"),
    Case("numeric(4,2)", "100", None, "merge=add"),
    Case("money", "1.10", "$1.10"),
    Case("boolean", "true", "true"),
    Case("boolean", '"true"', None),
    Case("boolean", "1", None),
    Case("text", '"a"', "a"),
    Case("text", "1.10", "1.10"),
    Case("text", "true", "true"),
    Case("text", '{"a":1.10}', '{"a":1.10}'),
    Case("varchar(2)", '"abc"', None),
    Case("char(4)", '"ab"', "ab"),
    Case("char(4)", '"abcde"', None),
    Case("uuid", '"a0eebc999c0b4ef8bb6d6bb9bd380a11"', "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    Case("uuid", "5", None),
    Case("timestamptz", '"2026-01-01T01:00:00+01:00"', "2026-01-01 00:00:00+00"),
    Case("timestamptz", '"infinity"', "infinity"),
    Case("timestamptz", '"infinity"', None, "merge=max"),
    Case("timestamptz", '"0044-03-15 BC"', "0044-03-15 00:00:00+00 BC"),
    Case("timestamptz", '"0044-03-15 BC"', None, "merge=max"),
    Case("timestamptz", '"2026-01-01T24:00:00Z"', "2026-01-02 00:00:00+00"),
    Case("timestamptz", '"2026-01-01T24:00:00Z"', None, "merge=min"),
    Case("timestamptz", '"2016-12-31T23:59:60Z"', "2017-01-01 00:00:00+00"),
    Case("timestamptz", '"2016-12-31T23:59:60Z"', None, "merge=max"),
    Case("timestamptz", '"12026-01-01"', "12026-01-01 00:00:00+00"),
    Case("timestamptz", '"12026-01-01"', None, "merge=max"),
    Case("timestamptz", '"2026-01-01T00:00:00.123456789Z"', "2026-01-01 00:00:00.123457+00"),
    Case("timestamptz", '"2026-01-01T00:00:00.123456789Z"', "2026-01-01 00:00:00.123457+00",
         "merge=max"),
    Case("timestamptz", '"2026-01-01T00:00:00.9999995Z"', "2026-01-01 00:00:01+00", "merge=max"),
    Case("timestamptz", '"2026-01-01T00:00:00 Europe/Berlin"', "2025-12-31 23:00:00+00"),
    Case("timestamptz", '"2026-01-01T00:00:00 Europe/Berlin"', None, "merge=max"),
    Case("timestamp", '"2026-01-01T00:00:00+05:30"', "2026-01-01 00:00:00"),
    Case("timestamp", '"2026-01-01T00:00:00+05:30"', "2026-01-01 00:00:00", "merge=max"),
    Case("timestamptz", "1732621212", None),
    Case("timestamptz", '"1732621212"', None),
    Case("timestamptz", '"now"', None),
    Case("timestamptz", "1732621212", "2024-11-26 11:40:12+00", "unit=s"),
    Case("timestamptz", "1732621212.5", "2024-11-26 11:40:12.5+00", "unit=s"),
    Case("timestamptz", '"1732621212"', "2024-11-26 11:40:12+00", "unit=s"),
    Case("timestamptz", "1732621212123", "2024-11-26 11:40:12.123+00", "unit=ms"),
    Case("timestamptz", "1732621212123", "2024-11-26 11:40:12.123+00", "unit=ms merge=max"),
    Case("timestamptz", "1732621212123456", "2024-11-26 11:40:12.123456+00", "unit=us"),
    Case("timestamptz", "1732621212123456789", "2024-11-26 11:40:12.123457+00", "unit=ns"),
    Case("timestamptz", "true", None, "unit=s"),
    Case("timestamp", "1732621212", None),
    Case("timestamp", "1732621212", "2024-11-26 11:40:12", "unit=s"),
    Case("date", '"2026-01-01"', "2026-01-01"),
    Case("date", '"2026-01-01T23:00:00Z"', "2026-01-01", "merge=max"),
    Case("date", "20053", None),
    Case("date", "20053", "2024-11-26", "unit=days"),
    Case("date", "-1", "1969-12-31", "unit=days"),
    Case("time", '"12:30"', "12:30:00"),
    Case("time", "45000", None),
    Case("time", "45000", "12:30:00", "unit=s"),
    Case("time", "86400", None, "unit=s"),
    Case("timetz", "45000", None),
    Case("interval", '"1 day"', "1 day"),
    Case("interval", "90", None),
    Case("interval", "90", "00:01:30", "unit=s"),
    Case("bytea", '"\\\\x48Ff"', "\\x48ff"),
    Case("bytea", '"aGVsbG8="', None),
    Case("bytea", '"aGVsbG8="', "\\x68656c6c6f", "encoding=base64"),
    Case("bytea", '"%%"', None, "encoding=base64"),
    Case("jsonb", '{"a":1.10}', '{"a": 1.10}'),
    Case("jsonb", '"text"', '"text"'),
    Case("jsonb", "1e2", "100"),
    Case("jsonb", '{"a":1.10}', '{"a": 1.10}', "merge=jsonb"),
    Case("jsonb", "[1]", None, "merge=jsonb"),
    Case("json", '{"a": 1.10}', '{"a": 1.10}'),
    Case("integer[]", "[1,2]", "{1,2}"),
    Case("integer[]", "[[1],[2]]", "{{1},{2}}"),
    Case("integer[]", "[1.5]", None),
    Case("numeric[]", "[1.10,null]", "{1.10,NULL}"),
    Case("text[]", '["a","b,c"]', '{a,"b,c"}'),
    Case("jsonb[]", '["1","true",{"a":1.10},[1]]', '{"\\"1\\"","\\"true\\"","{\\"a\\": 1.10}",[1]}'),
    Case("timestamptz[]", "[1732621212]", None),
    Case("timestamptz[]", "[1732621212]", '{"2024-11-26 11:40:12+00"}', "unit=s"),
    Case("bytea[]", '["aGk="]', '{"\\\\x6869"}', "encoding=base64"),
    Case("box[]", '["(1,1),(0,0)"]', "{(1,1),(0,0)}"),
    Case("inet", '"10.0.0.1"', "10.0.0.1/32"),
    Case("point", '"(1,2)"', "(1,2)"),
    Case("int4range", '"[1,5)"', "[1,5)"),
    Case("bit(3)", '"101"', "101"),
    Case("macaddr", '"08:00:2b:01:02:03"', "08:00:2b:01:02:03"),
)  # fmt: skip
