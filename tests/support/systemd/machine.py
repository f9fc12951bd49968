"""A real systemd, booted as the first process of namespaces of its own; see ``boot``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.local.waiting import wait_until
from tests.support.instance import PATIENCE

BOOT = Path(__file__).with_name("boot")
TOOLS = ("unshare", "nsenter", "setpriv", "pivot_root", "systemctl", "dbus-daemon")
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))

INSIDE = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}
"""The environment of commands inside, beside where pip takes packages from."""


class NoMachine(Exception):
    """None can be booted here; the message says why."""


class Machine:
    """A booted systemd. Commands run inside it as root.

    Args:
        pid: of its first process, as it is seen from here.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside, and return its output (standard error in it) and exit code.

        Raises:
            AssertionError: it failed, and ``check`` is true; the message has the output.
        """
        pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid", "--cgroup",
             "--", "env", "--chdir=/", *command],
            env={**INSIDE, **pip}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=4 * PATIENCE, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done

    def shell(self, script: str) -> str:
        """Run a script of bash inside; return its output."""
        return self.run("bash", "-euo", "pipefail", "-c", script).stdout

    def write(self, path: str, text: str, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file inside, and the folders that it is in."""
        place = Path(f"/proc/{self.pid}/root{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode)
        place.chmod(mode)
        place.write_text(text)
        if owner != "root:root":
            self.run("chown", owner, path)


class Unit:
    """A unit of a machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name

    def systemctl(self, verb: str, *options: str, check: bool = True) -> str:
        """Call systemctl for it; return its output."""
        return self.machine.run("systemctl", verb, *options, self.name, check=check).stdout

    def show(self, key: str) -> str:
        """One of its properties."""
        return self.systemctl("show", f"--property={key}", "--value").strip()

    @property
    def status(self) -> str:
        """What the process says of itself."""
        return self.show("StatusText")

    @property
    def pid(self) -> int:
        """Its main process, as it is seen inside; 0 if there is none."""
        return int(self.show("MainPID"))

    @property
    def journal(self) -> str:
        return self.machine.run("journalctl", "--output=cat", "--unit", self.name).stdout

    def events(self, name: str) -> list[dict[str, str]]:
        """The entries of its journal that are events of that name, with their fields."""
        named = ("--unit", self.name, f"EVENT={name}")
        told = self.machine.run("journalctl", "--output=json", *named).stdout
        return [json.loads(line) for line in told.splitlines()]

    def wait(self, key: str, *values: str) -> None:
        """Wait until a property has one of these values."""
        found = wait_until(lambda: self.show(key) in values, PATIENCE)
        assert found, f"{self.name}: {key} is {self.show(key)}: {self.status}\n{self.journal}"

    def wait_for_status(self, text: str) -> None:
        """Wait until the process says so."""
        found = wait_until(lambda: text in self.status, PATIENCE)
        assert found, f"{self.name} never said {text!r}: {self.status}\n{self.journal}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its main process."""
        self.systemctl("kill", "--kill-whom=main", f"--signal={number.name}")


@contextmanager
def booted(*shown: Path) -> Iterator[Machine]:
    """Boot a machine; ``shown`` are directories to be seen in it. It ends with the block.

    Raises:
        NoMachine: namespaces, overlays or control groups are not to be had.
    """
    cgroup_root = _require()
    directory = Path(tempfile.mkdtemp(prefix="systemd-"))
    cgroup = cgroup_root / directory.name
    process = None
    try:
        with (directory.parent / f"{directory.name}.log").open("w+") as log:
            Path(log.name).unlink()
            try:
                cgroup.mkdir()
                process = subprocess.Popen(
                    ["setpriv", "--pdeathsig=KILL", "bash", str(BOOT), str(directory), str(cgroup),
                     *map(str, shown)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
                machine = Machine(_first_process(process, cgroup_root))
            except (OSError, NoMachine) as error:
                log.seek(0)
                raise NoMachine(
                    f"no systemd can be booted here: {log.read().strip() or error}"
                ) from None
            _wait_booted(machine)
            yield machine
            machine.run("systemctl", "poweroff", check=False)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
    finally:
        if process is not None:
            process.kill()  # unshare, whose child is the first process: that gets SIGKILL too
            process.wait()
        _remove(cgroup)
        shutil.rmtree(directory, ignore_errors=True)


def _require() -> Path:
    """Return where control groups are made.

    Raises:
        NoMachine: something is missing.
    """
    if os.geteuid() != 0:
        raise NoMachine("systemd is booted by root only")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        raise NoMachine(f"systemd can't be booted: {', '.join(missing) or 'systemd'} missing")
    for place in CGROUPS:
        if (place / "cgroup.procs").exists():
            return place
    raise NoMachine("systemd can't be booted: there are no control groups of version 2")


def _first_process(process: subprocess.Popen[bytes], cgroup_root: Path) -> int:
    """Wait for systemd; only what is in its namespaces may stay in its control group."""

    def children() -> Sequence[str]:
        place = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return place.read_text().split() if place.exists() else ()

    def is_systemd() -> bool:
        return process.poll() is not None or any(
            Path(f"/proc/{child}/comm").read_text().strip() == "systemd" for child in children()
        )

    wait_until(is_systemd, PATIENCE)
    if process.poll() is not None or not children():
        raise NoMachine(f"exit code {process.poll()}")
    (cgroup_root / "cgroup.procs").write_text(str(process.pid))
    return int(children()[0])


def _wait_booted(machine: Machine) -> None:
    def up() -> bool:
        state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    assert wait_until(up, PATIENCE), machine.run("systemctl", check=False).stdout


def _remove(cgroup: Path) -> None:
    """Remove a control group and what is below it; nothing runs there any more."""
    if cgroup.exists():
        for directory, _, _ in os.walk(cgroup, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)
