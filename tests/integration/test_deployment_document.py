"""The page on deployment, command by command, on a bare system."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pipeline.local import Servers
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE, ROOT
from tests.support.pipelines import Group
from tests.support.servers import DatabaseFactory
from tests.support.systemd.deployment import machine_or_skip, partitions_of
from tests.support.systemd.machine import Machine, Unit

pytestmark = [pytest.mark.real, pytest.mark.slow]

PAGE = ROOT / "docs" / "operations" / "deployment.md"
ELSEWHERE = re.compile(r"^(apt-get|git) .*\n", re.MULTILINE)
"""What brings the checkout and its needs to the machine: they are there."""

TABLE = "create table subscriptions (id bigint primary key, app_id text, session_count bigint)"


def steps() -> list[tuple[str, str]]:
    """The page's commands: a section's title, and a block of it."""
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        title = section.partition("\n")[0]
        found += [(title, block) for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]
    return found


@pytest.fixture
def bare(servers: Servers) -> Iterator[Machine]:
    """A machine with a checkout at the page's place, and the page's topic."""
    with machine_or_skip() as machine:
        place = "/usr/src/pipeline"
        parts = "pipeline deploy docs pyproject.toml README.md LICENSE"
        machine.shell(f"mkdir -p {place}; cd {ROOT}; cp -a {parts} {place}")
        servers.create_topic("sessions", 4)
        yield machine
        servers.delete_topic("sessions")


def check_dry_run(machine: Machine) -> None:
    """It tells all, and does nothing; what is meant wrongly is refused."""
    install = "/usr/src/pipeline/deploy/systemd/install"
    told = machine.run(install, "--dry-run").stdout
    assert "would run: /usr/bin/python3 -m venv /opt/pipeline/releases/" in told
    assert "/etc/systemd/system/pipeline@.service" in told
    assert machine.shell("find /opt/pipeline /etc/pipeline 2>/dev/null || true") == ""
    for wrong in (["--nonsense"], ["--instance", "../x"], ["--instance", "x"], ["--rollback"]):
        assert machine.run(install, *wrong, check=False).returncode == 1


def test_the_page_leads_to_two_instances_and_an_endpoint_and_back(
    bare: Machine, servers: Servers, database: DatabaseFactory
) -> None:
    dsn = database()
    psql(dsn, TABLE)
    group = Group(servers.bootstrap, "sessions", "sessions")
    units = [Unit(bare, f"pipeline@sessions-{name}.service") for name in "ab"]
    variables = f"export KAFKA={servers.bootstrap} DSN='{dsn}'; cd /usr/src/pipeline\n"
    said = ""
    check_dry_run(bare)
    for title, block in steps():
        if title == "Uninstall":
            assert wait_until(group.caught_up, PATIENCE)
            assert psql(dsn, "select * from subscriptions") == "7|app-1|1"
            assert [unit.show("ActiveState") for unit in units] == ["active", "active"]
            assert sorted(map(len, map(partitions_of, units))) in ([0, 4], [1, 3], [2, 2])
            assert all(unit.show("NRestarts") == "0" for unit in units)
        said = bare.shell(variables + ELSEWHERE.sub("", block))
        print(f"--- {title}\n{said}")
        if title == "The HTTP endpoint":
            assert '"receipt"' in said
        if title == "The first instance" and "check" in block:
            assert "Active: active (running)" in said
        if title == "Upgrade":
            first = said.splitlines()[0]
            assert first.endswith("is installed"), "what is done already is not done again"
    group.close()
    assert bare.run("ls", "/opt/pipeline", check=False).returncode != 0
    left = bare.shell("cd /etc/systemd/system; find . -name 'pipeline*' -not -name '*.d'")
    assert left == "", "nothing but what an operator has added"
    assert "the user pipeline stay" in said
