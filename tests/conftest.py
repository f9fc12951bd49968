"""What every test shares."""

import signal

pytest_plugins = [
    "tests.support.servers",
    "tests.support.pipelines",
    "tests.support.letters",
    "tests.support.postgres_servers",
    "tests.support.standby",
    "tests.support.pgbouncer",
    "tests.support.brokers",
    "tests.support.certificates",
    "tests.support.secured_kafka",
    "tests.support.secured_postgres",
    "tests.support.acls",
]


def pytest_configure() -> None:
    """Ctrl-C works in tests and in what they start, also where a shell started them with ``&``.

    Such a shell lets SIGINT be ignored, and processes inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
