"""The samples of docs/handlers.md are run as they are printed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.testing
from pipeline import HandlerRetry, Record
from pipeline.config.load import load
from pipeline.local.postgres import psql
from pipeline.postgres.handlers.load import load_handler
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

DOCUMENT = Path(__file__).parents[2] / "docs" / "handlers.md"
REST = """
[pipeline]
name = "orders"
[kafka]
bootstrap_servers = "127.0.0.1:9092"
topics = "orders"
[[shards]]
name = "db0"
dsn = "postgresql://app@127.0.0.1:5432/app"
"""


def blocks(language: str) -> list[str]:
    """The document's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


@pytest.fixture
def dsn(database: DatabaseFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the document's tables; its Python files are in the working directory."""
    dsn = database()
    for statements in blocks("sql"):
        psql(dsn, statements)
    for source in blocks("python"):
        name = source.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DSN", dsn)
    return dsn


def python(*arguments: str) -> str:
    """What Python prints, as someone would run it beside the files."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def order(offset: int, number: int, total: str) -> Record:
    document = {"id": number, "customer": "c", "total": total}
    return pipeline.testing.record(document, key="c", offset=offset)


ORDERS = "select id, customer, total, at_offset from orders order by id"


def test_every_block_is_one_that_is_run_here() -> None:
    languages = re.findall(r"^```(\w+)$", DOCUMENT.read_text(), re.M)
    assert set(languages) == {"sql", "toml", "python"}
    files = {source.splitlines()[0] for source in blocks("python")}
    assert files == {
        "# orders.py", "# totals.py", "# stock.py", "# test_orders.py", "# try_orders.py",
    }  # fmt: skip


def test_the_configuration_loads(tmp_path: Path) -> None:
    (sink,) = blocks("toml")
    path = tmp_path / "pipeline.toml"
    path.write_text(REST + sink)
    assert load(path).sink.handler == "orders:apply"


def test_the_tests_of_the_sample_pass(dsn: str) -> None:
    printed = python("-m", "pytest", "-p", "no:cacheprovider", "test_orders.py")
    assert "2 passed" in printed
    assert psql(dsn, ORDERS) == ""


def test_the_plain_script_runs(dsn: str) -> None:
    assert python("try_orders.py") == "the handler takes it\n"
    assert psql(dsn, ORDERS) == ""


@pytest.mark.parametrize("module", ["orders", "totals"])
def test_both_ways_to_write_give_the_same_rows(dsn: str, module: str) -> None:
    records = [order(1, 7, "9.50"), order(2, 8, "3.00"), order(3, 7, "12.00")]
    pipeline.testing.run(load_handler(f"{module}:apply"), records, dsn=dsn, commit=True)
    assert psql(dsn, ORDERS) == "7|c|12.00|3\n8|c|3.00|2"


def test_a_handler_that_asks(dsn: str) -> None:
    apply = load_handler("stock:apply")
    taken = pipeline.testing.record({"item": "bolt", "amount": 2})
    with pytest.raises(HandlerRetry, match="item bolt is not in stock yet"):
        pipeline.testing.run(apply, [taken], dsn=dsn)
    psql(dsn, "insert into stock values ('bolt', 5)")
    pipeline.testing.run(apply, [taken, taken], dsn=dsn, commit=True)
    assert psql(dsn, "select amount from stock") == "1"
