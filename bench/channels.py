"""What does a record cost in the key channels? Put, take and done together, in µs of CPU.

The goals are 1 µs for records with one key and 3 µs for records with two, whatever the number of
distinct keys. The load is that of one partition: records with random keys are put, and taken by eight
writers in turn, so that about --buffered records wait all the time (the default is that of [limits]
max_buffered). The median of several rounds counts.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from statistics import median
from time import process_time

from bench.harness.goals import Goal, at_most
from bench.harness.question import Answer, answer, parser
from pipeline.consumer.channels import Batch, Channels, KeyChannels
from pipeline.consumer.multi_key_channels import MultiKeyChannels
from pipeline.records.record import Record, TopicPartition

BUDGETS = {1: 1.0, 2: 3.0}
"""µs per record, by the number of keys per record."""
KEYS = (1_000, 100_000, 1_000_000)
SOURCE = TopicPartition("bench", 0)
PUT, TAKE, WRITERS = 500, 1_000, 8


class Blank:
    """A message whose content is never read."""

    offset, timestamp, key, value, headers = 0, 0, None, None, ()


def chunks(count: int, keys: int, keys_each: int) -> Iterator[list[Record]]:
    """Make records in offset order, as a decoder does, with random ones of ``keys`` keys."""
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
    """Take and finish records until ``buffered`` wait; return CPU seconds and finished records."""
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
    """Measure one round: µs of CPU per record."""
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


def measure(options: argparse.Namespace) -> Answer:
    """Measure each number of keys per record with each number of distinct keys."""
    costs: dict[int, dict[int, float]] = {}
    print(f"{'keys per record':>15} {'keys':>10} {'µs per record':>14}")
    for keys_each in BUDGETS:
        costs[keys_each] = {}
        for keys in KEYS:
            count = max(options.records, keys)
            cost = costs[keys_each][keys] = median(
                one_round(keys_each, keys, count, options.buffered) for _ in range(options.rounds)
            )
            print(f"{keys_each:>15} {keys:>10,} {cost:>14.2f}", flush=True)
    return Answer({"microseconds": costs}, goals(costs))


def goals(costs: Mapping[int, Mapping[int, float]]) -> list[Goal]:
    """Compare the highest cost of each number of keys per record with its budget."""
    return [
        at_most(f"µs, {keys_each} per record, highest", max(costs[keys_each].values()), budget)
        for keys_each, budget in BUDGETS.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question; see `bench.harness.question.answer` for the exit code."""
    made = parser("channels", __doc__, "--records 200000 --rounds 3")
    made.add_argument(
        "--records", type=int, default=1_000_000, help="per round, at least (default: 1,000,000)"
    )
    made.add_argument(
        "--buffered", type=int, default=20_000, help="records that wait (default: 20,000)"
    )
    made.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    return answer(made.parse_args(arguments), measure)


if __name__ == "__main__":
    sys.exit(main())
