"""Waits that time out, on kafka-python's own I/O loop."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.net.selector import NetworkSelector

from pipeline.kafka.fetcher import free_tracebacks


class Fetched:
    """What whoever waits has at hand."""


@pytest.fixture
def fetcher() -> Iterator[Any]:
    loop = NetworkSelector()
    loop.start()
    consumer: Any = SimpleNamespace(_fetcher=SimpleNamespace(_net=loop))
    free_tracebacks(consumer)
    gc.disable()
    try:
        yield consumer._fetcher
    finally:
        gc.enable()
        loop.stop()
        loop.close()


async def answer(value: int) -> int:
    return value


async def time_out() -> None:
    raise KafkaTimeoutError("nothing came")


def wait(fetcher: Any) -> weakref.ref[Fetched]:
    """As `Fetcher.fetch_records`: what is fetched stands in a variable of the frame that waits."""
    fetched = Fetched()
    with suppress(KafkaTimeoutError):
        fetcher._net.run(time_out)
    return weakref.ref(fetched)


def test_it_holds_nothing_of_whoever_waited(fetcher: Any) -> None:
    """All that was fetched stayed in memory until the cycle collector came by."""
    assert wait(fetcher)() is None


def test_answers_and_errors_are_as_ever(fetcher: Any) -> None:
    with pytest.raises(KafkaTimeoutError, match="nothing came"):
        fetcher._net.run(time_out)
    assert fetcher._net.run(answer, 7) == 7
