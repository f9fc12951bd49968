"""A model of a database server, in virtual time: cores that are shared, and a way that takes time.

Transactions travel for ``delay`` seconds and then need work, which all that are there share equally, as
the processes of Postgres share the cores (processor sharing). Foreign transactions are always there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import attrs


class Limit(Protocol):
    """What `AdaptiveLimit` is to the model."""

    @property
    def limit(self) -> int: ...

    def observe(self, rows: int, at_once: int, seconds: float, now: float) -> None: ...


@attrs.frozen
class FixedLimit:
    limit: int

    def observe(self, rows: int, at_once: int, seconds: float, now: float) -> None:
        pass


@attrs.define(eq=False)
class _Job:
    rows: int
    at_once: int
    began: float
    arrives: float
    work: float


def always(value: float) -> Callable[[float], float]:
    """A function of time that does not change."""
    return lambda _: value


def between(start: float, end: float, value: float, otherwise: float) -> Callable[[float], float]:
    """A function of time that has another value for a while."""
    return lambda now: value if start <= now < end else otherwise


@attrs.define
class ServerModel:
    """One server, and a consumer with a backlog that never ends.

    Attributes:
        cores: how many transactions are worked on at full speed.
        row: seconds of work a row.
        base: seconds of work a transaction, besides.
        rows: how many rows the next transaction has.
        delay: seconds on the way, of a transaction that begins at a time.
        foreign: other programs' transactions that are there at a time.
        slower: by how much all work is longer at a time.
    """

    cores: float
    rows: Callable[[random.Random], int]
    row: float = 10e-6
    base: float = 1e-3
    delay: Callable[[float], float] = attrs.field(default=always(0.0005))
    foreign: Callable[[float], float] = attrs.field(default=always(0.0))
    slower: Callable[[float], float] = attrs.field(default=always(1.0))
    seed: int = 0
    limits: list[tuple[float, int]] = attrs.field(factory=list)
    """When transactions ended, and what the limit was then."""
    done: list[tuple[float, int]] = attrs.field(factory=list)
    """When transactions ended, and how many rows they had."""

    def run(self, limit: Limit, seconds: float) -> None:
        """Keep as many transactions running as the limit says, for so many virtual seconds."""
        chance = random.Random(self.seed)
        now, jobs = 0.0, list[_Job]()
        while now < seconds:
            while len(jobs) < limit.limit:
                jobs.append(self._begun(chance, now, len(jobs) + 1))
            there = [job for job in jobs if job.arrives <= now]
            speed = min(1.0, self.cores / max(1e-9, len(there) + self.foreign(now)))
            least = min(there, key=lambda job: job.work, default=None)
            arrival = min((job.arrives for job in jobs if job.arrives > now), default=now + 0.1)
            step = min(0.1, arrival - now)
            if least is not None:
                step = min(step, least.work / speed)
            now += max(step, 1e-9)
            for job in there:
                job.work -= speed * step
            for job in [job for job in there if job.work <= 1e-12]:
                jobs.remove(job)
                limit.observe(job.rows, job.at_once, now - job.began, now)
                self.done.append((now, job.rows))
                self.limits.append((now, limit.limit))

    def _begun(self, chance: random.Random, now: float, at_once: int) -> _Job:
        rows = self.rows(chance)
        work = (self.base + rows * self.row) * chance.lognormvariate(0.0, 0.3) * self.slower(now)
        return _Job(rows, at_once, now, now + self.delay(now), work)

    def rate(self, start: float, end: float) -> float:
        """Rows per second that were done in a time."""
        return sum(rows for when, rows in self.done if start <= when < end) / (end - start)

    def mean_limit(self, start: float, end: float) -> float:
        """The mean limit, as transactions met it."""
        found = [limit for when, limit in self.limits if start <= when < end]
        return sum(found) / len(found)
