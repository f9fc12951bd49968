"""What unit tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit test asks servers which of them answers; test_bootstrap does, of sockets of its own."""
    if "test_bootstrap" not in request.node.nodeid:
        every = lambda kafka: kafka.bootstrap_servers  # noqa: E731
        monkeypatch.setattr("pipeline.kafka.options.usable_servers", every)


@pytest.fixture
def root() -> Iterator[None]:
    """Logging as it was, afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers, logger.level
    logger.handlers = []
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers = handlers
    logger.setLevel(level)
    logging.captureWarnings(False)
