"""Servers of their own, for chaos breaks them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.stage import Servers, Stage


@pytest.fixture(scope="session")
def breakable() -> Iterator[Servers]:
    """Both servers behind proxies."""
    with Servers.started() as servers:
        yield servers


@pytest.fixture
def stage(breakable: Servers, tmp_path: Path) -> Iterator[Stage]:
    """Two instances on a topic and a table of this test's own."""
    made = Stage(breakable, tmp_path)
    yield made
    made.close()
