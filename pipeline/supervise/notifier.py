"""Messages to the service manager: sd_notify(3), a datagram to the socket that ``NOTIFY_SOCKET`` names.

The protocol is stable and small, and the C library that speaks it too may not be there: so it is
spoken here. A message never blocks and never fails the program: what counts is sent again by the next
tick of `pipeline.supervise.reports`.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

STATUS_BYTES = 400
"""A longer line is of no use in ``systemctl status``."""


class Notifier:
    """The way to the service manager; without one, every message goes nowhere.

    Args:
        address: the socket's path, or its abstract name after ``@``; None: nobody listens.
        watchdog_seconds: within which it wants a sign of life; None: it wants none.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self._failed = False
        self.watchdog_seconds = watchdog_seconds if address is not None else None

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int | None = None) -> Notifier:
        """Read systemd's variables; ``pid`` is this process unless a test says another.

        An address of another kind (``vsock:``), and a watchdog for another process, count as none.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        return cls(address, _watchdog_seconds(environ, os.getpid() if pid is None else pid))

    @property
    def enabled(self) -> bool:
        """Whether there is a service manager."""
        return self._address is not None

    def tell(self, *lines: str) -> bool:
        """Send assignments, such as ``READY=1``, in one message; return whether it went out.

        Not a checkpoint, and never blocks. The first failure is logged.
        """
        if self._address is None:
            return True
        path = self._address
        address = "\0" + path[1:] if path.startswith("@") else path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except BlockingIOError:  # it has not read the messages before yet
            return False
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("the service manager at %s can't be told anything: %s", path, error)
            return False
        return True


def status(text: str) -> str:
    """Return the assignment of a status: one line, and no longer than one can read."""
    line = " ".join(text.split())
    if len(line.encode()) > STATUS_BYTES:
        line = line.encode()[: STATUS_BYTES - 3].decode(errors="ignore") + "…"
    return f"STATUS={line}"


def extend(seconds: float) -> str:
    """Return the assignment that asks for more time to start, reload or stop, from now on."""
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"


def monotonic() -> str:
    """Return the assignment of the present time that goes with ``RELOADING=1``."""
    return f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    wanted, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if not wanted.isdecimal() or int(wanted) == 0 or whose not in (None, "", str(pid)):
        return None
    return int(wanted) / 1e6
