"""What a record costs in the key channels: put, take and done together, in µs of CPU.

The budget is 1 µs where a record has one key and 3 µs where it has two, whatever the number of keys.
The load is a partition's: records whose keys are drawn at random are put, and taken by eight writers
in turn, so that about --buffered records wait all the time, the default of [limits] max_buffered. Of
several rounds the median counts.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from statistics import median
from time import process_time

from pipeline.consumer.channels import Batch, Channels, KeyChannels
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.records.record import Record, TopicPartition

EXAMPLE = "example: python -m bench.channels --records 200000 --rounds 3"
BUDGET = {1: 1.0, 2: 3.0}
KEYS = (1_000, 100_000, 1_000_000)
SOURCE = TopicPartition("bench", 0)
PUT, TAKE, WRITERS = 500, 1_000, 8


class Blank:
    """A message of which nothing is looked at."""

    offset, timestamp, key, value, headers = 0, 0, None, None, ()


def chunks(count: int, keys: int, keys_each: int) -> Iterator[list[Record]]:
    """Records in offset order, as a decoder gives them, with keys drawn from ``keys``."""
    choose, raw = random.Random(keys), Blank()
    for start in range(0, count, PUT):
        numbers = [choose.randrange(keys) for _ in range(PUT * keys_each)]
        if keys_each == 1:
            orderings: list[Hashable] = [*numbers]
        else:
            pairs = zip(numbers[:PUT], numbers[PUT:], strict=True)
            orderings = [((0, one), (1, other)) for one, other in pairs]
        yield [Record(SOURCE, start + n, raw, None, key) for n, key in enumerate(orderings)]


def drain(channels: Channels, buffered: int) -> tuple[float, int]:
    """Take and finish until ``buffered`` records wait: CPU seconds, and how many were finished."""
    finished, in_flight = 0, deque[Batch]()
    started = process_time()
    while channels.waiting > buffered or in_flight:
        if len(in_flight) == WRITERS or not channels.ready or channels.waiting <= buffered:
            batch = in_flight.popleft()
            channels.done(batch)
            finished += len(batch)
        else:
            in_flight.append(channels.take(TAKE))
    return process_time() - started, finished


def one_round(keys_each: int, keys: int, count: int, buffered: int) -> float:
    """µs of CPU a record."""
    channels: Channels = KeyChannels() if keys_each == 1 else MultiKeyChannels()
    seconds, finished, put = 0.0, 0, 0
    for chunk in chunks(count, keys, keys_each):
        started = process_time()
        channels.put(chunk)
        seconds += process_time() - started
        put += len(chunk)
        if channels.waiting >= buffered:
            cost, done = drain(channels, buffered - WRITERS * TAKE)
            seconds, finished = seconds + cost, finished + done
    cost, done = drain(channels, 0)
    assert finished + done == put, "every record comes out"
    assert channels.active_keys == 0, "and then no channel is open"
    return (seconds + cost) / put * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a case; 1 where one is over its budget."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.channels", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--records", type=int, default=1_000_000, help="at least (default: 1000000)"
    )
    parser.add_argument("--buffered", type=int, default=20_000, help="(default: 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    options = parser.parse_args(arguments)
    over = False
    print(f"{'keys a record':>13} {'keys':>10} {'µs a record':>12} {'budget':>7}")
    for keys_each, budget in BUDGET.items():
        for keys in KEYS:
            count = max(options.records, keys)
            cost = median(
                one_round(keys_each, keys, count, options.buffered) for _ in range(options.rounds)
            )
            over = over or cost > budget
            mark = "  over" if cost > budget else ""
            print(f"{keys_each:>13} {keys:>10,} {cost:>12.2f} {budget:>7.1f}{mark}", flush=True)
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
