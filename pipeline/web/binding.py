"""Where the server listens: an address, a unix socket, or sockets that systemd opened."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import trio
from attrs import frozen

from pipeline.errors import PipelineError

BACKLOG = 1_024
FIRST_INHERITED = 3


class ListenError(PipelineError):
    """The address can't be listened on; the message names it, ``reason`` is the system's."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"can't listen on {where}: {reason}")
        self.where = where
        self.reason = reason


@frozen
class Tcp:
    """A host and a port. Port 0 takes any free one.

    ``reuse_port``: other processes of this user may listen there too, and the kernel divides the
    connections among them (SO_REUSEPORT).
    """

    host: str
    port: int
    reuse_port: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Unix:
    """A unix socket. What a server that is gone left at its path is replaced; other files are not."""

    path: Path
    mode: int = 0o660

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen
class Inherited:
    """The sockets that systemd opened (sd_listen_fds(3)); ``name``: only those of that name."""

    name: str | None = None

    def __str__(self) -> str:
        return "systemd's sockets" + (f" named {self.name}" if self.name else "")


Binding = Tcp | Unix | Inherited


def activated() -> bool:
    """Return whether systemd opened sockets for this process."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


async def listen(binding: Binding) -> list[socket.socket]:
    """Return listening sockets that don't block. A checkpoint where a host's name is looked up.

    Raises:
        ListenError: the address can't be listened on, or systemd opened no such socket.
    """
    try:
        match binding:
            case Tcp():
                return [await _tcp(binding)]
            case Unix():
                return [_unix(binding)]
            case Inherited():
                return _inherited(binding)
    except OSError as problem:
        raise ListenError(str(binding), problem.strerror or str(problem)) from problem


async def _tcp(binding: Tcp) -> socket.socket:
    found = await trio.socket.getaddrinfo(
        binding.host, binding.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, *_, address = found[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if binding.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _send_at_once(sock)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(binding: Unix) -> socket.socket:
    path = binding.path
    if path.exists() and not _is_left_over(path):
        raise ListenError(str(binding), "a file is there, or a server that answers")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(binding.mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_left_over(path: Path) -> bool:
    """Whether it is a socket on which nobody listens."""
    if not stat.S_ISSOCK(path.stat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _inherited(binding: Inherited) -> list[socket.socket]:
    """Take over systemd's sockets; the variables stay, for others that are named."""
    if not activated():
        raise ListenError(str(binding), "systemd opened none for this process (LISTEN_PID)")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    taken = []
    for number in range(count):
        name = names[number] if number < len(names) else ""
        if binding.name is None or name == binding.name:
            taken.append(_adopted(binding, FIRST_INHERITED + number))
    if not taken:
        raise ListenError(str(binding), f"among the {count} of this process is none")
    return taken


def _adopted(binding: Inherited, descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    if (
        sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        or sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    ):
        sock.detach()
        raise ListenError(str(binding), f"descriptor {descriptor} is no listening stream socket")
    sock.setblocking(False)
    os.set_inheritable(descriptor, False)
    if sock.family != socket.AF_UNIX:
        _send_at_once(sock)
    return sock


def _send_at_once(sock: socket.socket) -> None:
    """Send small answers without delay; connections inherit that from the listening socket."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
