"""The signals that end a program: SIGTERM, from its supervisor; SIGINT and SIGHUP, from a terminal.

A signal that comes before anything can carry it out would kill the process at once, with an exit code
that reads as a crash. So they are held back from the first line on (`held`), wait in the kernel, and
are delivered when the receiver is there (`received`), which may be long before the work has begun.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stopping() -> tuple[signal.Signals, ...]:
    """Return the signals of `STOP`, less SIGHUP if it is ignored: so ``nohup`` asks for it."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(each for each in STOP if not (ignored and each is signal.SIGHUP))


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals back while the block runs.

    Signals that still wait at its end are dropped: the program has ended by itself. Processes that
    are started in the block hold them back too.
    """
    stop = stopping()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    try:
        yield
    finally:
        while signal.sigtimedwait(stop, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def received() -> Iterator[AsyncIterator[int]]:
    """Receive the signals as they come, those that were held back first.

    To be used in Trio, on the main thread.
    """
    import trio  # only here: `held` must not come later than it has to

    stop = stopping()
    with trio.open_signal_receiver(*stop) as signals:
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, stop)
        try:
            yield signals
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
