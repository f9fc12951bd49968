"""What every test shares."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.support.servers",
    "tests.support.pipelines",
    "tests.support.ingest_process",
    "tests.support.letters",
    "tests.support.postgres_servers",
    "tests.support.standby",
    "tests.support.pgbouncer",
    "tests.support.brokers",
    "tests.support.certificates",
    "tests.support.secured_kafka",
    "tests.support.secured_postgres",
    "tests.support.acls",
    "tests.support.service_manager",
    "tests.support.systemd.deployment",
]


def pytest_configure() -> None:
    """Ctrl-C works in tests and in what they start, also where a shell started them with ``&``.

    Such a shell lets SIGINT be ignored, and processes inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, print_blob=True)
settings.register_profile("soak", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))

WITHOUT_SERVERS = {"unit", "simulation"}
"""Folders none of whose tests may be marked ``real``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold ``-m "not real"`` to its promise, that nothing it takes needs a server; and virtual time.

    Raises:
        pytest.UsageError: A test takes the servers without the mark, or has the mark in a folder
            that is without servers; or it asks for a virtual clock in a way that gives it none.
    """
    for item in items:
        real = item.get_closest_marker("real") is not None
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if real and folder in WITHOUT_SERVERS:
            raise pytest.UsageError(f"{item.nodeid}: no test in tests/{folder} is marked real")
        if "servers" in getattr(item, "fixturenames", ()) and not real:
            raise pytest.UsageError(f"{item.nodeid} takes the real servers: mark it real")
        if any("autojump_clock" in mark.args for mark in item.iter_markers("usefixtures")):
            raise pytest.UsageError(f"{item.nodeid}: pytest-trio takes a clock only as an argument")
