"""Lanes are open while servers and instances break: each record is applied once, in the order of its key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.local.postgres import psql
from tests.chaos.faults import FAULTS
from tests.chaos.stage import Servers, Stage
from tests.support import accounts

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.slow]

KEYS = 200
BAD_KEYS = 5
"""Keys, each of which has records that the table refuses until that is mended."""

PER_SECOND = 500

CHECK = "alter table accounts add constraint not_bad check (not marks ? 'bad')"
MENDED = "alter table accounts drop constraint not_bad"

PLAY = ("kill_instance", "freeze_instance", "kill_postgres", "restart_kafka", "stop_instance")


def changes() -> Iterator[accounts.Message]:
    """The load of `accounts`, in which one record in a hundred of some keys is refused for now."""
    choose = random.Random(4)
    for n, (key, value) in enumerate(accounts.changes(1_000_000, KEYS, seed=4)):
        assert value is not None
        document = orjson.loads(value)
        if document["id"] < BAD_KEYS and choose.random() < 0.01:
            document["marks"] = {"bad": n}
        yield key, orjson.dumps(document)


def open_lanes(dsn: str) -> int:
    return int(psql(dsn, "select count(*) from pipeline.lanes where until_offset is null"))


@pytest.fixture
def stage(breakable: Servers, tmp_path: Path) -> Iterator[Stage]:
    """As for all chaos, but what is refused waits with its key."""
    made = Stage(breakable, tmp_path, errors='retry.23514 = "1h"')
    psql(made.dsn, CHECK)
    yield made
    made.close()


def test_faults_with_lanes_open_change_nothing(stage: Stage) -> None:
    choose = random.Random(4)
    with stage.job.load(changes(), PER_SECOND):
        stage.wait_for_progress()
        stage.job.wait_until(lambda: open_lanes(stage.dsn) > 0, "a lane for a record that failed")
        for name in PLAY:
            FAULTS[name](stage, choose)
            stage.wait_for_progress()
        assert open_lanes(stage.dsn) > 0
        psql(stage.dsn, MENDED)
        stage.wait_for_progress()
    stage.job.wait_caught_up()
    stage.job.wait_until(lambda: open_lanes(stage.dsn) == 0, "all lanes are closed")
    assert stage.differences() == []
    assert [instance.stop() for instance in stage.instances] == [0, 0]
