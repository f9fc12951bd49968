"""One `pipeline run` as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that anything may take before a test fails. Nothing is said by how long it took."""


class Instance:
    """One `pipeline run`, or another command that takes a configuration; its output in a file."""

    def __init__(self, config: Path, log: Path, command: str = "run") -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", command, "--config", str(config)],
                cwd=config.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code (negative: the signal that ended it). AssertionError where it goes on."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process {self.pid} still runs:\n{self.tail()}") from None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, also where it is stopped; nothing happens where it has ended."""
        if self.running:
            self.signal(signal.SIGKILL)
        self._process.wait()

    def scrape(self) -> str:
        """Its metrics as text; empty where it does not answer (yet, or any more)."""
        found = re.search(r"metrics and health on (http://\S+)", self.output)
        if found is None:
            return ""
        try:
            with urlopen(f"{found[1]}/metrics", timeout=2) as answer:
                text: str = answer.read().decode()
        except OSError:
            return ""
        return text

    @property
    def url(self) -> str:
        """Where it answers over HTTP; empty if that is not known yet."""
        found = re.search(r"metrics and health on (http://\S+)", self.output)
        return "" if found is None else found[1]

    def probe(self, path: str) -> tuple[int, str]:
        """The status and the text of an address such as /readyz; (0, "") where it does not answer."""
        found = re.search(r"metrics and health on (http://\S+)", self.output)
        if found is None:
            return 0, ""
        try:
            with urlopen(found[1] + path, timeout=2) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """The sum of a metric's series; 0 where it does not answer."""
        lines = self.scrape().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))

    def by_partition(self, name: str) -> dict[int, float]:
        """Partition → value of a metric that has a series for each."""
        found = re.findall(rf'^{name}{{partition="(\d+)",.*}} (\S+)$', self.scrape(), re.MULTILINE)
        return {int(partition): float(value) for partition, value in found}

    def errors(self) -> list[str]:
        """The messages that ended it."""
        return re.findall(r"^(?:\S+Z CRITICAL pipeline|pipeline:) (.*)", self.output, re.MULTILINE)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output.splitlines()[-lines:])
