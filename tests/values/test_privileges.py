"""Grants on columns: those that `check` asks for suffice, and none of them is too many."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from pipeline.check.privileges import missing_privileges, needed_privileges
from pipeline.config.model import ColumnConfig, SinkConfig
from pipeline.postgres.sink.catalog import read_table
from pipeline.postgres.sink.packing import packed
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from tests.support.records import SOURCE, Raw
from tests.values.test_values import Server, newest, oldest

pytestmark = pytest.mark.real
__all__ = ["newest", "oldest"]

ROLE = "column_writer"
TABLE = f"""
create table t (id int primary key, seen int, total int default 0, "Marks" jsonb, other text);
create role {ROLE};
"""
COLUMNS = (
    ColumnConfig("id", "@key"),
    ColumnConfig("seen", "seen", missing="null"),
    ColumnConfig("total", "total", merge="add", missing="null"),
    ColumnConfig("Marks", "marks", missing="keep"),
)


@pytest.fixture(params=["newest", "oldest"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found: Server = request.getfixturevalue(request.param)
    found.sql(TABLE)
    yield found
    found.sql(f"reset role; drop owned by {ROLE}; drop role {ROLE}")


def sink_of(mode: str) -> SinkConfig:
    deletes = "ignore" if mode == "insert" else "delete"
    return SinkConfig("public.t", mode, ("id",), COLUMNS, tombstone=deletes)  # type: ignore[arg-type]


def write(server: Server, config: SinkConfig) -> None:
    """A row with all fields, one that lacks one, and a tombstone."""
    sink, statements = server.made(config)
    values = [b'{"seen":1,"total":2,"marks":{}}', b'{"seen":1,"total":2}', None]
    for offset, value in enumerate(values):
        raw = Raw(offset, b"%d" % offset, value)
        for made in sink.writes(json_decoder([Path.parse("@key")], sink.shape)(SOURCE, [raw])):
            text = statements.plain[made.kind]
            server.run(server.connection.execute(text, *packed(made.arrays)))


def missing(server: Server, config: SinkConfig) -> list[str]:
    table = server.run(read_table(server.connection, "public.t"))
    assert table is not None
    found: list[str] = server.run(missing_privileges(server.connection, config, table))
    return found


@pytest.mark.parametrize("mode", ["upsert", "update", "insert"])
def test_the_columns_that_are_asked_for_suffice_and_each_is_needed(
    server: Server, mode: str
) -> None:
    config = sink_of(mode)
    needed = needed_privileges(config)
    grants = [
        f'{privilege} ("{name}")' for privilege, names in needed.items() for name in names
    ] + [privilege for privilege, names in needed.items() if not names]
    assert len(grants) > 4 or mode == "update"
    server.sql(f"grant {', '.join(grants)} on t to {ROLE}; set role {ROLE}")
    assert missing(server, config) == []
    write(server, config)
    for each in grants:
        server.sql(f"reset role; revoke {each} on t from {ROLE}; set role {ROLE}")
        (told,) = missing(server, config)
        assert each.startswith(told) if "(" not in told else told == each
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            write(server, config)
        server.sql(f"reset role; grant {told} on t to {ROLE}; set role {ROLE}")
        assert missing(server, config) == []


def test_a_privilege_that_is_on_no_column_is_asked_for_on_the_table(server: Server) -> None:
    config = sink_of("upsert")
    server.sql(f"grant select (id, other), insert on t to {ROLE}; set role {ROLE}")
    assert missing(server, config) == ['select ("total", "Marks")', "update", "delete"]
    server.sql(f"reset role; grant all on t to {ROLE}; set role {ROLE}")
    assert missing(server, config) == []
