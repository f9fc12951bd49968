"""What every test shares."""

pytest_plugins = [
    "tests.support.servers",
    "tests.support.pipelines",
    "tests.support.letters",
]
