"""The demo: it ends well, it can end badly, and it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from io import StringIO
from itertools import islice
from pathlib import Path

import attrs
import orjson
import pytest
from rich.console import Console

from pipeline.demo.display import line, picture
from pipeline.demo.events import Model, Subscription, events, partition_of
from pipeline.demo.progress import DemoProgress, PartitionProgress
from pipeline.demo.reading import Ledgers
from pipeline.demo.stage import SHARDS, TABLE
from pipeline.demo.verdict import compare
from pipeline.local.members import members
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from pipeline.postgres.connections.bridge import open_bridge
from tests.support.pipelines import PATIENCE, ROOT
from tests.support.servers import DatabaseFactory

pytestmark = pytest.mark.real

BROKEN = """\
import sys
from pipeline.cli import main
from pipeline.demo import stage
stage.CONFIG = stage.CONFIG.replace('merge = "add"', 'merge = "last"')
sys.exit(main(sys.argv[1:]))
"""
"""The demo with a pipeline that keeps the last session's count instead of adding them up."""


INTERRUPTIBLE = """\
import signal, sys
from pipeline.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
"""The demo as a terminal starts it: what runs in the background may inherit an ignored SIGINT."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo puts its directories; the user who runs Postgres can enter it."""
    made = Path(tempfile.mkdtemp(prefix="pipeline-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def demo(place: Path, *command: str, seconds: int = 4, rate: int = 400) -> subprocess.Popen[str]:
    arguments = ["demo", "--seconds", str(seconds), "--rate", str(rate)]
    return subprocess.Popen(
        [sys.executable, *(command or ("-m", "pipeline")), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    """What it prints until its end."""
    try:
        return process.communicate(timeout=2 * PATIENCE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def test_an_instance_is_killed_and_every_row_is_right(place: Path) -> None:
    process = demo(place)
    output = output_of(process)
    assert process.returncode == 0, output
    assert "GOOD: every record was applied exactly once" in output
    assert "instance B is killed (SIGKILL)" in output
    assert "differences        0" in output
    assert max(map(len, output.splitlines())) <= 80
    assert list(place.iterdir()) == []
    assert members(place) == []


def test_a_wrong_pipeline_is_found_out(place: Path) -> None:
    process = demo(place, "-c", BROKEN)
    output = output_of(process)
    assert process.returncode == 1, output
    assert "BAD: " in output
    assert "session_count is 1, expected" in output
    (kept,) = place.iterdir()
    assert f"The logs are in {kept}" in output
    assert {"A.log", "B.log", "A.toml", "kafka.log", "demo.log"} <= set(os.listdir(kept))


def test_ctrl_c_leaves_nothing(place: Path) -> None:
    process = demo(place, "-c", INTERRUPTIBLE, seconds=60)
    assert process.stdout is not None
    for text in process.stdout:
        if "events per second" in text:
            break
    process.send_signal(signal.SIGINT)
    output = output_of(process)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert list(place.iterdir()) == []
    assert members(place) == []


def test_a_killed_demo_leaves_no_process(place: Path) -> None:
    process = demo(place, seconds=60)
    assert process.stdout is not None
    for text in process.stdout:
        if "events per second" in text:
            break
    process.kill()
    process.communicate()
    assert wait_until(lambda: members(place) == [], PATIENCE)


def test_what_is_shown_of_millions_fits() -> None:
    partitions = tuple(
        PartitionProgress(number, shard, "A", 1_234_567, 234_567, 1_234.5, 12_345.6)
        for shard, numbers in SHARDS.items()
        for number in numbers
    )
    progress = DemoProgress(partitions, sent=7_407_402, sent_rate=740_740.2)
    console = Console(width=200, record=True, file=StringIO())
    console.print(picture(progress))
    shown = console.export_text().splitlines()
    assert max(len(text.rstrip()) for text in [*shown, " " * 7 + line(progress)]) <= 80


def expected_rows(count: int) -> dict[int, Subscription]:
    model = Model()
    for event in islice(events(1), count):
        model.apply(event)
    return model.rows


def fill(dsns: Mapping[str, str], rows: Mapping[int, Subscription]) -> None:
    """Put each row where it belongs, by another way than the pipeline's."""
    for name, partitions in SHARDS.items():
        documents = [
            {"id": id, **attrs.asdict(row)}
            for id, row in rows.items()
            if partition_of(row.app_id) in partitions
        ]
        text = orjson.dumps(documents).decode().replace("'", "''")
        psql(
            dsns[name],
            "insert into subscriptions "
            f"select * from jsonb_populate_recordset(null::subscriptions, '{text}')",
        )


@pytest.fixture
def dsns(database: DatabaseFactory) -> dict[str, str]:
    made = {name: database() for name in SHARDS}
    for dsn in made.values():
        psql(dsn, TABLE)
    return made


async def differing(dsns: Mapping[str, str], rows: Mapping[int, Subscription]) -> list[str]:
    async with open_bridge():
        ledgers = Ledgers(dsns)
        try:
            return await compare(ledgers.databases, rows)
        finally:
            await ledgers.close()


async def test_rows_that_are_right_do_not_differ(dsns: dict[str, str]) -> None:
    rows = expected_rows(500)
    fill(dsns, rows)
    assert await differing(dsns, rows) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("session_count = session_count + 1", "session_count is"),
        ("last_seen = last_seen - interval '1 ms'", "last_seen is"),
        ('tags = tags || \'{"plan": "other"}\'', "tags is"),
        ("last_event = last_event - 1", "last_event is"),
        ("app_id = 'app-99'", "app_id is app-99"),
    ],
)
async def test_one_wrong_value_is_found(dsns: dict[str, str], change: str, told: str) -> None:
    rows = expected_rows(500)
    fill(dsns, rows)
    (id,) = [psql(dsns["db1"], "select min(id) from subscriptions")]
    psql(dsns["db1"], f"update subscriptions set {change} where id = {id}")
    (difference,) = await differing(dsns, rows)
    assert difference.startswith(f"db1 id {id}: ")
    assert told in difference


async def test_rows_that_are_missing_or_astray_are_found(dsns: dict[str, str]) -> None:
    rows = expected_rows(500)
    fill(dsns, rows)
    gone = psql(dsns["db0"], "select min(id) from subscriptions")
    psql(dsns["db0"], f"delete from subscriptions where id = {gone}")
    psql(dsns["db1"], "insert into subscriptions values (7, 'app-00', 1, now(), '{}', 1)")
    found = await differing(dsns, rows)
    assert [text.split(",")[0].split(" (")[0] for text in found] == [
        f"db0 id {gone}: missing",
        "db1 id 7: should not be there",
    ]
