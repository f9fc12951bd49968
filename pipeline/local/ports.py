"""Free TCP ports on 127.0.0.1."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10_000
HOST = "127.0.0.1"


def free_port() -> int:
    """Choose a port that nobody listens on, at random.

    It lies below the range from which the kernel takes the ports of outgoing connections. A port
    inside that range could be taken by any client while its server is down; worse, a client that
    keeps trying to reach the dead server can be given that very port and connect to itself.

    Raises OSError if no port is free.
    """
    highest = first_ephemeral_port() - 1
    for _ in range(1000):
        port = random.randint(LOWEST, highest)
        if is_free(port):
            return port
    raise OSError(f"no free port between {LOWEST} and {highest} on {HOST}")


def is_free(port: int) -> bool:
    """Return whether a server may bind this port now."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Return whether a server accepts connections on this port now."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def first_ephemeral_port() -> int:
    """Return the lowest port that the kernel gives to outgoing connections; 32768 if it is unknown."""
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return low if low > LOWEST + 1000 else 32_768
