"""A producer at a steady rate, in a process of its own: ``python -m bench.harness.paced``.

Record n is due n ÷ rate seconds after the start, and its ``last_seen`` is that time: the producer's own
linger and delays count as latency like everything after them. ``tags`` says how late the record was
made, in µs. Records have the size and the columns of `bench.harness.load`'s (200 bytes), but each has
an id of its own, counted from --first, and record n goes to partition n modulo the number of partitions.
They are of 64 apps in turn, or all of one. With rate 0 the producer is as fast as it can be.

At the end, or at SIGTERM, it waits until Kafka has acknowledged everything and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import deque
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import attrs
from aiokafka import AIOKafkaProducer

VALUE = (
    b'{"id":%d,"app_id":"%b","last_seen":"%b.%06dZ","session_count":1,'
    b'"tags":{"n":%d,"late":%d},"pad":"%b"}'
)
SIZE = 200
FASTEST = 10_000
"""Records per round of batches if there is no rate to keep."""


@attrs.frozen
class Produced:
    """What a producer did. Times are seconds since the epoch."""

    records: int
    started: float
    ended: float
    cpu: float
    """CPU seconds that the producer used."""

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / (self.ended - self.started)


class Values:
    """Makes the values of records, in ascending order of their times.

    Args:
        app: whose all records are; empty: they are of 64 apps in turn.
    """

    def __init__(self, app: str = "") -> None:
        self._apps = [app.encode()] if app else [b"app-%d" % number for number in range(64)]
        self._second = -1
        self._prefix = b""

    def make(self, number: int, due: float, now: float) -> bytes:
        """Make the value of a record that is due at ``due`` and made at ``now``: about `SIZE` bytes."""
        second = int(due)
        if second != self._second:
            self._second = second
            self._prefix = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}".encode()
        micros = int((due - second) * 1e6)
        late = int((now - due) * 1e6)
        app = self._apps[number % len(self._apps)]
        value = VALUE % (number, app, self._prefix, micros, number, late, b"")
        return value[:-2] + b"x" * (SIZE - len(value)) + b'"}'


class Paced:
    """One run of the producer."""

    def __init__(self, options: argparse.Namespace, producer: Any, partitions: list[int]) -> None:
        self._options = options
        self._producer = producer
        self._partitions = partitions
        self._values = Values(options.app)
        self._sent = 0
        self._unacknowledged: deque[Awaitable[Any]] = deque()
        self.stopped = asyncio.Event()

    async def run(self) -> Produced:
        """Produce until the time is over, all records are sent, or `stopped` is set."""
        options = self._options
        cpu = time.process_time()
        started = now = time.time()
        last = started + options.seconds
        while not self.stopped.is_set() and now < last and self._sent < options.records:
            if options.rate:
                due = min(int((now - started) * options.rate) + 1, options.records)
                await self._send(started, due, now)
                await self._pause(started)
            else:
                due = min(self._sent + FASTEST, options.records)
                await self._send(now, due, now)
            now = time.time()
        ended = time.time()
        for acknowledged in self._unacknowledged:
            await acknowledged
        return Produced(self._sent, started, ended, time.process_time() - cpu)

    async def _pause(self, started: float) -> None:
        """Wait until the next record is due, and for the linger at least."""
        next_due = started + self._sent / self._options.rate
        wait = max(self._options.linger, next_due - time.time())
        try:
            async with asyncio.timeout(wait):
                await self.stopped.wait()
        except TimeoutError:
            pass

    async def _send(self, started: float, until: int, now: float) -> None:
        """Make and send the records up to number ``until``: one batch per partition."""
        partitions, rate, make = self._partitions, self._options.rate, self._values.make
        first = self._options.first
        batches = {partition: self._producer.create_batch() for partition in partitions}
        stamp = int(now * 1000)
        for number in range(self._sent, until):
            due = started + number / rate if rate else now
            batch = batches[partitions[number % len(partitions)]]
            identity = first + number
            value = make(identity, due, now)
            if batch.append(key=b"%d" % identity, value=value, timestamp=stamp) is None:
                until = number  # full: the rest follows in the next round, late
                break
        self._sent = until
        for partition, batch in batches.items():
            if batch.record_count():
                self._unacknowledged.append(
                    await self._producer.send_batch(batch, self._options.topic, partition=partition)
                )
        while self._unacknowledged and self._unacknowledged[0].done():  # type: ignore[attr-defined]
            await self._unacknowledged.popleft()  # raises if Kafka refused it


async def produce(options: argparse.Namespace) -> Produced:
    """Connect, produce, and wait for all acknowledgements."""
    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap, enable_idempotence=True, max_batch_size=1024 * 1024
    )
    await producer.start()
    try:
        paced = Paced(options, producer, sorted(await producer.partitions_for(options.topic)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, paced.stopped.set)
        return await paced.run()
    finally:
        await producer.stop()


def main() -> None:
    """Produce, and print what was done as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.harness.paced", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument(
        "--rate", type=float, default=500.0, help="records/s; 0: no limit (default: 500)"
    )
    parser.add_argument("--seconds", type=float, default=1e6)
    parser.add_argument("--records", type=int, default=10**12, help="at most (default: no limit)")
    parser.add_argument("--first", type=int, default=0, help="the first id (default: 0)")
    parser.add_argument("--app", default="", help="whose all records are (default: 64 apps')")
    parser.add_argument("--linger", type=float, default=0.002, help="seconds between batches")
    print(json.dumps(attrs.asdict(asyncio.run(produce(parser.parse_args())))), flush=True)


if __name__ == "__main__":
    main()
