"""The table of values, against PostgreSQL 18 and 15, and the page that is written from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from pipeline.config.model import ColumnConfig, SinkConfig
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.errors import RowError, Verdict, judge
from pipeline.postgres.sink.catalog import read_table
from pipeline.postgres.sink.packing import packed
from pipeline.postgres.sink.sink import Sink
from pipeline.postgres.sink.statements import Statements
from pipeline.postgres.sink.validate import mistakes_of
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from tests.support.records import SOURCE, Raw
from tests.support.servers import DatabaseFactory
from tests.values.document import PAGE, page
from tests.values.table import CASES, Case

REFUSED = "refused"


def test_the_page_is_written_from_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.values.document"


class Server:
    """A connection to one server, set up as the pipeline's are."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        settings = Session("test").server_settings() | {"lc_monetary": "C"}
        self.connection = self.run(asyncpg.connect(dsn, server_settings=settings))

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def sql(self, text: str) -> None:
        self.run(self.connection.execute(text))

    def rows(self, text: str) -> list[Any]:
        return [tuple(row) for row in self.run(self.connection.fetch(text))]

    def made(self, config: SinkConfig) -> tuple[Sink, Statements]:
        table = self.run(read_table(self.connection, config.table or ""))
        assert mistakes_of(config, table) == []
        sink = Sink(config, table)
        return sink, Statements(sink)

    def apply(self, config: SinkConfig, *values: str) -> None:
        """Values as JSON, in one batch."""
        sink, statements = self.made(config)
        raws = [Raw(offset, b"k", value.encode()) for offset, value in enumerate(values)]
        records = json_decoder([Path.parse("@key")], sink.shape)(SOURCE, raws)
        for write in sink.writes(records):
            self.run(self.connection.execute(statements.plain[write.kind], *packed(write.arrays)))

    def refusal(self, config: SinkConfig, *values: str) -> str | None:
        """The SQLSTATE, or "refused", if the values become dead letters; None if they are applied."""
        try:
            self.apply(config, *values)
        except (RowError, asyncpg.PostgresError) as error:
            if judge(error) is not Verdict.REJECT:
                raise
            return getattr(error, "sqlstate", REFUSED)
        return None


@pytest.fixture
def newest(database: DatabaseFactory) -> Iterator[Server]:
    server = Server(database())
    yield server
    server.run(server.connection.close())


@pytest.fixture
def oldest(debian_database: Callable[[], str]) -> Iterator[Server]:
    server = Server(debian_database())
    yield server
    server.run(server.connection.close())


def config_of(
    columns: dict[str, dict[str, Any]], mode: Any = "upsert", table: str = "public.t", **more: Any
) -> SinkConfig:
    made = tuple(
        ColumnConfig(**{"name": name, "source": name, **settings})
        for name, settings in columns.items()
    )
    return SinkConfig(table=table, mode=mode, primary_key=("id",), columns=made, **more)


def outcomes(server: Server) -> list[tuple[Case, Any]]:
    """The cases whose outcome is not the table's, with what it was."""
    wrong = []
    for case in CASES:
        server.sql(f"drop table if exists t; create table t (id int primary key, v {case.type})")
        config = config_of({"id": {}, "v": case.settings})
        refusal = server.refusal(config, f'{{"id":1,"v":{case.json}}}')
        stored = None if refusal else server.rows("select v::text from t")[0][0]
        if stored != case.stored:
            wrong.append((case, refusal or stored))
    return wrong


@pytest.mark.real
def test_the_table_on_the_newest_server(newest: Server) -> None:
    assert outcomes(newest) == []


@pytest.mark.real
def test_the_table_on_the_oldest_server(oldest: Server) -> None:
    assert outcomes(oldest) == []
