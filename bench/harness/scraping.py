"""A reader of an instance's metrics, as a monitoring system is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from urllib.request import urlopen

from bench.harness.drain import DrainFailed

APPLIED = b"pipeline_records_applied_total{"


def series(listen: str, name: str) -> dict[str, float]:
    """Return a metric at an address: labels as they are written → value. Empty without an answer."""
    try:
        with urlopen(f"http://{listen}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except OSError:
        return {}
    lines = (line for line in text.splitlines() if line.startswith(name + "{"))
    return {line[len(name) : line.rindex(" ")]: float(line.split()[-1]) for line in lines}


@contextmanager
def scraping(listen: str, every: float) -> Iterator[None]:
    """Read the metrics at an address every ``every`` seconds, on a thread, until the block ends.

    Raises:
        DrainFailed: the block ended, and no answer had the counter of applied records.
    """
    answers: list[bytes] = []
    ended = Event()

    def scrape() -> None:
        stopped = False
        while not stopped:
            with suppress(OSError), urlopen(f"http://{listen}/metrics", timeout=5) as answer:
                answers.append(answer.read())
            stopped = ended.wait(every)

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if not any(APPLIED in answer for answer in answers):
        raise DrainFailed(f"the metrics at {listen} could not be read")
