"""What unit tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def root() -> Iterator[None]:
    """Logging as it was, afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers, logger.level
    logger.handlers = []
    yield
    logger.handlers = handlers
    logger.setLevel(level)
    logging.captureWarnings(False)
