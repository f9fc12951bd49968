"""The end of sd_notify(3) that systemd has, and a standing that a test sets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.supervise.notifier import Notifier


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def notifier(self, watchdog_seconds: float | None = None) -> Notifier:
        return Notifier(self.address, watchdog_seconds)

    def told(self) -> list[str]:
        """The messages since the last call, their lines joined by a space."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(65_536).decode().replace("\n", " "))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


class Facts:
    """A standing that a test sets."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.text = "fine"
        self.reasons: list[str] = []

    def starting(self) -> str | None:
        return self.why

    def status(self) -> str:
        return self.text

    def live(self) -> list[str]:
        return self.reasons
