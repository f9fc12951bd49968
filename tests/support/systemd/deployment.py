"""Instances of pipeline under a real systemd, installed as an operator would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.instance import ROOT
from tests.support.systemd.machine import Machine, NoMachine, Unit, booted

INSTALL = ROOT / "deploy" / "systemd" / "install"

QUICK = """\
[Service]
WatchdogSec=3
TimeoutAbortSec=5
RestartSec=200ms
"""
"""What tests would else wait for."""


@contextmanager
def machine_or_skip() -> Iterator[Machine]:
    """A machine that sees this checkout; the test skips, with the reason, where none can be booted."""
    with booted_or_skip(ROOT) as machine:
        yield machine


@contextmanager
def booted_or_skip(*shown: Path) -> Iterator[Machine]:
    """As `booted`; the test skips, with the reason, where that can't be."""
    boot = booted(*shown)
    try:
        machine = boot.__enter__()
    except NoMachine as error:
        pytest.skip(str(error))
    try:
        yield machine
    finally:
        boot.__exit__(None, None, None)


@pytest.fixture(scope="session")
def installed() -> Iterator[Machine]:
    """A machine on which this checkout is installed."""
    with machine_or_skip() as machine:
        machine.run(str(INSTALL))
        for service in ("pipeline@.service", "pipeline-ingest@.service"):
            machine.write(f"/etc/systemd/system/{service}.d/quick.conf", QUICK)
        machine.run("systemctl", "daemon-reload")
        yield machine


class Deployment:
    """The instances of one test on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.units: list[Unit] = []

    def add(
        self,
        name: str,
        config: str,
        secrets: Mapping[str, str] | None = None,
        command: str = "pipeline",
    ) -> Unit:
        """Write an instance's files; it is not started."""
        self.configure(name, config)
        self.machine.run(
            "install", "--directory", "--mode=700", f"/etc/pipeline/{name}.credentials"
        )
        for secret, value in (secrets or {}).items():
            self.machine.write(f"/etc/pipeline/{name}.credentials/{secret}", value, 0o600)
        unit = Unit(self.machine, f"{command}@{name}.service")
        self.units.append(unit)
        return unit

    def configure(self, name: str, config: str) -> None:
        """Write an instance's configuration."""
        self.machine.write(f"/etc/pipeline/{name}.toml", config, 0o640, "root:pipeline")

    def close(self) -> None:
        """End all instances at once, and remove their files; their journals are printed."""
        for unit in self.units:
            unit.systemctl("kill", "--signal=SIGKILL", check=False)
            unit.systemctl("stop", check=False)
            unit.systemctl("reset-failed", check=False)
            name = unit.name.partition("@")[2].removesuffix(".service")
            self.machine.shell(f"rm -rf /etc/pipeline/{name}.*")
            print(f"--- {unit.name}\n{unit.journal}")


@pytest.fixture
def deployment(installed: Machine) -> Iterator[Deployment]:
    """Instances on the machine where this checkout is installed; ended with the test."""
    made = Deployment(installed)
    yield made
    made.close()


def partitions_of(unit: Unit) -> set[int]:
    """The partitions that a unit's process was given, and has not given up since, by its journal."""
    owned: set[int] = set()
    for line in unit.journal.splitlines():
        found = re.search(r"assignment (assigned|revoked|lost): (.*)", line)
        if "version" in line and "configured by" in line:
            owned.clear()
        elif found:
            numbers = {int(number) for number in re.findall(r"-(\d+)(?:,|$)", found[2])}
            owned = owned | numbers if found[1] == "assigned" else owned - numbers
    return owned
