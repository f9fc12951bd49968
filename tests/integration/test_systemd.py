"""Instances under a real systemd, which is the first process of namespaces of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from pipeline.local.errors import LocalError
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.instance import PATIENCE, ROOT
from tests.support.pipelines import Job
from tests.support.systemd.deployment import INSTALL, Deployment, partitions_of
from tests.support.systemd.machine import Machine, Unit

pytestmark = [pytest.mark.real, pytest.mark.slow]

DSN = "${file:${CREDENTIALS_DIRECTORY}/secret_dsn}"
STATIC = 'group_instance_id = "${PIPELINE_MEMBER}"'


def add(deployment: Deployment, job: Job, dsn: str, name: str, **sections: str) -> Unit:
    """Add an instance that runs a job; its address is a secret."""
    job.write_config({"db0": (DSN, "")}, **sections)
    return deployment.add(name, job.config.read_text(), {"dsn": dsn})


@contextmanager
def locked(dsn: str, table: str) -> Iterator[Callable[[], None]]:
    """Nobody reaches a table until the block ends, or what it gives is called."""
    sleeping = f"begin; lock table {table} in access exclusive mode; select pg_sleep(600)"

    def hold() -> None:
        with pytest.raises(LocalError):
            psql(dsn, sleeping)

    def is_held() -> bool:
        held = f"select count(*) from pg_locks where granted and relation = '{table}'::regclass"
        return psql(dsn, f"{held} and mode = 'AccessExclusiveLock'") == "1"

    def release() -> None:
        psql(
            dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()",
        )
        thread.join()

    thread = Thread(target=hold)
    thread.start()
    assert wait_until(is_held, PATIENCE)
    try:
        yield release
    finally:
        release()


def test_units_are_without_mistakes_and_hardened(installed: Machine) -> None:
    units = [f"/etc/systemd/system/{name}" for name in (
        "pipeline@.service", "pipeline-ingest@.service", "pipeline-ingest@.socket",
        "pipeline.target", "pipeline.slice",
    )]  # fmt: skip
    assert installed.run("systemd-analyze", "verify", *units).stdout == ""
    for service in units[:2]:
        installed.run("systemd-analyze", "security", "--offline=yes", "--threshold=15", service)


def test_a_unit_is_ready_when_its_partitions_are_served_and_not_before(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    unit = add(deployment, job, account_dsn, "ready")
    ddl = deployment.machine.run("/opt/pipeline/current/bin/pipeline", "check", "--ddl").stdout
    psql(account_dsn, ddl)
    with locked(account_dsn, "pipeline.ownership") as release:
        unit.systemctl("start", "--no-block")
        unit.wait_for_status("starting: taking over 6 of 6 partitions")
        assert unit.show("ActiveState") == "activating"
        release()
        unit.wait("ActiveState", "active")
    assert "partitions 6" in unit.status
    assert partitions_of(unit) == set(range(6))
    job.wait_until(lambda: len(unit.events("started")) == 6, "the journal has the fields")
    started = unit.events("started")
    assert {each["PARTITION"] for each in started} == {str(number) for number in range(6)}
    assert {each["TOPIC"] for each in started} == {job.topic}
    assert {each["SYSLOG_IDENTIFIER"] for each in started} == {"pipeline@ready"}


def test_an_instance_that_gets_no_partition_is_ready_as_a_spare(
    deployment: Deployment, new_job: Callable[..., Job], account_dsn: str
) -> None:
    job = new_job(1)
    units = [
        add(deployment, job, account_dsn, name, limits='drain_deadline = "500ms"')
        for name in ("one", "spare")
    ]
    for unit in units:
        unit.systemctl("start")
    assert sorted("no partitions: spare" in unit.status for unit in units) == [False, True]


def test_a_process_that_stands_still_is_caught_by_the_watchdog_and_replaced(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    unit = add(deployment, job, account_dsn, "stuck", kafka=STATIC)
    unit.systemctl("start")
    before = unit.pid
    unit.signal(signal.SIGSTOP)
    unit.wait("NRestarts", "1")
    unit.wait("ActiveState", "active")
    assert unit.pid not in (0, before)
    assert "Watchdog timeout" in unit.journal
    job.produce(accounts.changes(1000, keys=100, seed=1))
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []


def test_a_stop_under_load_loses_and_repeats_nothing(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    unit = add(deployment, job, account_dsn, "load")
    unit.systemctl("start")
    with job.load(accounts.changes(100_000, keys=300, seed=2), 2000) as load:
        job.wait_until(lambda: load.reached(2000) and any(job.group.committed().values()))
        unit.systemctl("stop")
        job.wait_until(lambda: "Deactivated successfully" in unit.journal)
        assert job.group.members() == 0, "left at once, not when the session is over"
        sent = load.sent
        job.wait_until(lambda: load.reached(sent + 2000))
    unit.systemctl("start")
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []


def test_a_drain_may_take_longer_than_the_manager_waits_for_one_that_hangs(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    limits = 'drain_deadline = "60s"\nlock_timeout = "60s"\nstatement_timeout = "90s"'
    unit = add(deployment, job, account_dsn, "slow", limits=limits)
    deployment.machine.write(
        f"/run/systemd/system/{unit.name}.d/short.conf", "[Service]\nTimeoutStopSec=2\n"
    )
    deployment.machine.run("systemctl", "daemon-reload")
    unit.systemctl("start")
    with locked(account_dsn, "accounts") as release:
        job.produce(accounts.changes(100, keys=10, seed=3))
        waiting = "select count(*) > 0 from pg_locks where not granted"
        job.wait_until(lambda: psql(account_dsn, waiting) == "t", "a transaction waits")
        unit.systemctl("stop", "--no-block")
        unit.wait_for_status("stopping: draining")
        elapsed = "select clock_timestamp() - '{}'::timestamptz > '4 s'"
        began = psql(account_dsn, "select clock_timestamp()")
        job.wait_until(lambda: psql(account_dsn, elapsed.format(began)) == "t", "twice its time")
        assert unit.show("ActiveState") == "deactivating"
        release()
    job.wait_until(lambda: "Deactivated successfully" in unit.journal)


def test_a_rolling_upgrade_of_static_members_moves_no_partition(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    machine = deployment.machine
    units = [add(deployment, job, account_dsn, name, kafka=STATIC) for name in ("a", "b")]
    for unit in units:
        unit.systemctl("start")
    job.wait_until(lambda: all(len(partitions_of(unit)) == 3 for unit in units))
    before = [partitions_of(unit) for unit in units]
    machine.shell(
        f"mkdir /usr/src/newer; cd {ROOT};"
        " cp -a pipeline deploy docs pyproject.toml README.md LICENSE /usr/src/newer;"
        " sed -i 's/^version = .*/version = \"99.0.0\"/' /usr/src/newer/pyproject.toml"
    )
    told = machine.run("/usr/src/newer/deploy/systemd/install").stdout
    assert all(f"systemctl restart {unit.name}" in told for unit in units)
    with job.load(accounts.changes(100_000, keys=300, seed=4), 1000) as load:
        for unit, others in zip(units, reversed(units), strict=True):
            moves = others.journal.count("assignment ")
            unit.systemctl("restart")
            sent = load.sent
            job.wait_until(lambda: load.reached(sent + 1000))  # noqa: B023, waited for here
            assert others.journal.count("assignment ") == moves, "the other one noticed nothing"
            assert "/releases/99.0.0-" in machine.shell(f"tr '\\0' ' ' < /proc/{unit.pid}/cmdline")
    job.wait_caught_up()
    assert [partitions_of(unit) for unit in units] == before
    assert [unit.show("NRestarts") for unit in units] == ["0", "0"], "who works is left alone"
    assert accounts.differences(job.log(), account_dsn) == []
    assert "/releases/0." in machine.run(str(INSTALL), "--rollback").stdout


def test_a_reload_changes_what_can_change_and_refuses_the_rest_by_name(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    unit = add(deployment, job, account_dsn, "reload", limits="max_batch = 500")
    unit.systemctl("start")
    before, text = unit.pid, job.config.read_text()

    changed = text.replace("max_batch = 500", "max_batch = 700") + '[log]\nlevel = "debug"\n'
    deployment.configure("reload", changed)
    unit.systemctl("reload")
    job.wait_until(lambda: "reloaded: limits.max_batch, log.level" in unit.journal)

    deployment.configure("reload", changed.replace("session_timeout_ms = 6000", ""))
    assert "failed" in unit.systemctl("reload", check=False)
    why = "a restart is needed to change kafka.session_timeout_ms"
    assert f"the reload was refused: {why}" in unit.status

    deployment.configure("reload", changed.replace("max_batch", "max_bacth"))
    assert "failed" in unit.systemctl("reload", check=False)
    assert 'limits.max_bacth: unknown key (did you mean "max_batch"?)' in unit.status

    deployment.configure("reload", changed.replace("max_batch = 700", "max_batch = 800"))
    unit.systemctl("reload")
    assert "refused" not in unit.status

    assert (unit.show("ActiveState"), unit.pid) == ("active", before)
    job.produce(accounts.changes(1000, keys=100, seed=5))
    job.wait_caught_up()
    assert accounts.differences(job.log(), account_dsn) == []


def test_a_mistake_in_the_configuration_is_told_and_not_restarted(deployment: Deployment) -> None:
    unit = deployment.add("wrong", '[pipeline]\nname = "wrong"\n')
    unit.systemctl("start", check=False)
    assert (unit.show("ActiveState"), unit.show("ExecMainStatus")) == ("failed", "2")
    assert (unit.show("NRestarts"), unit.show("SubState")) == ("0", "failed")
    assert "kafka.bootstrap_servers: missing" in unit.status


def test_what_is_away_is_tried_again_until_it_is_there(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    unit = add(deployment, job, account_dsn, "away")
    name = "away"
    deployment.configure(name, job.config.read_text().replace(job.bootstrap, "127.0.0.1:1"))
    unit.systemctl("start", "--no-block")
    unit.wait("NRestarts", "1", "2", "3")
    deployment.configure(name, job.config.read_text())
    unit.wait("ActiveState", "active")


def test_nobody_else_can_read_the_secrets_of_an_instance(
    deployment: Deployment, job: Job, account_dsn: str
) -> None:
    password = "s3cr3t-pa55word"
    dsn = account_dsn.replace("postgres@", f"postgres:{password}@")
    units = [add(deployment, job, dsn, name) for name in ("mine", "other")]
    for unit in units:
        unit.systemctl("start", "--no-block")
    for unit in units:
        unit.wait("ActiveState", "active")
    mine, other = units
    machine, secret = deployment.machine, f"/run/credentials/{mine.name}/secret_dsn"
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    as_pipeline = ["setpriv", "--reuid=pipeline", "--regid=pipeline", "--clear-groups"]

    def readable(*command: str) -> bool:
        return machine.run(*command, check=False).returncode == 0

    def seen_by(unit: Unit) -> list[str]:
        return ["nsenter", f"--target={unit.pid}", "--mount", "--", *as_pipeline]

    assert readable("cat", secret)
    assert readable(*seen_by(mine), "cat", secret)
    assert not readable(*as_nobody, "cat", secret)
    assert not readable(*as_nobody, "cat", "/etc/pipeline/mine.toml")
    assert not readable(*seen_by(other), "cat", secret), "another instance, though of the same user"
    assert not readable(*seen_by(mine), "cat", "/etc/pipeline/mine.credentials/dsn")
    assert password in machine.shell(f"cat {secret}")
    assert password not in machine.shell(f"cat /proc/{mine.pid}/environ /proc/{mine.pid}/cmdline")
    assert password not in mine.journal
