"""The faults, by name. Each breaks something on a running stage and mends it again.

What a fault leaves behind is for the pipeline to clear up. A fault that ends an instance starts
another in its place: two run before and after.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from threading import Event

from pipeline.local.postgres import psql
from tests.chaos.stage import Stage

SESSION_TIMEOUT = 6.0  # the configuration's, in seconds
ANSWER = b"MERGE "
"""In the answer to a batch that was written: the command's tag, with how many rows it merged."""

Fault = Callable[[Stage, random.Random], None]


def lasting(seconds: float) -> None:
    """How long something stays broken: the fault's own length, not a wait for anything."""
    Event().wait(seconds)


def kill_instance(stage: Stage, choose: random.Random) -> None:
    """SIGKILL, and another one in its place."""
    place = choose.randrange(2)
    stage.instances[place].kill()
    stage.replace(place)


def stop_instance(stage: Stage, choose: random.Random) -> None:
    """SIGTERM, which must end cleanly whatever goes on, and another one in its place."""
    place = choose.randrange(2)
    assert stage.instances[place].stop() == 0
    stage.replace(place)


def freeze_instance(stage: Stage, choose: random.Random) -> None:
    """SIGSTOP past the session's timeout, so that the partitions move; then it wakes up."""
    sleeper = stage.instances[choose.randrange(2)]
    sleeper.signal(signal.SIGSTOP)
    lasting(SESSION_TIMEOUT + 3)
    sleeper.signal(signal.SIGCONT)


def terminate_backends(stage: Stage, choose: random.Random) -> None:
    """pg_terminate_backend for every connection to the database, several times."""
    for _ in range(choose.randrange(3, 8)):
        psql(stage.servers.postgres.dsn, "select pg_terminate_backend(pid) from pg_stat_activity "
             f"where datname = '{stage.name}'")  # fmt: skip
        lasting(choose.uniform(0.05, 0.3))


def restart_postgres(stage: Stage, choose: random.Random) -> None:
    """Postgres is stopped as an operator would, and comes back."""
    stage.servers.postgres.stop()
    lasting(choose.uniform(0.2, 2))
    stage.servers.postgres.start()


def kill_postgres(stage: Stage, choose: random.Random) -> None:
    """Postgres loses its power, and recovers."""
    stage.servers.postgres.kill(signal.SIGKILL)
    lasting(choose.uniform(0.2, 1))
    stage.servers.postgres.start()


def restart_kafka(stage: Stage, choose: random.Random) -> None:
    """Kafka is stopped as an operator would, and comes back."""
    stage.servers.kafka.stop()
    lasting(choose.uniform(0.2, 2))
    stage.servers.kafka.start()


def kill_kafka(stage: Stage, choose: random.Random) -> None:
    """Kafka loses its power, and recovers."""
    stage.servers.kafka.kill(signal.SIGKILL)
    lasting(choose.uniform(0.2, 1))
    stage.servers.kafka.start()


def lose_answers(stage: Stage, choose: random.Random) -> None:
    """Postgres commits, says so, and nobody hears it: the connection breaks there."""
    proxy = stage.servers.postgres_proxy
    wanted = choose.randrange(5, 20)
    before = proxy.lost_answers
    proxy.lose_answers(ANSWER, wanted)
    stage.job.wait_until(lambda: proxy.lost_answers - before == wanted, "answers lost")


def cut_postgres(stage: Stage, choose: random.Random) -> None:
    """All connections to Postgres are reset, many times, in whatever they were doing."""
    for _ in range(choose.randrange(10, 30)):
        stage.servers.postgres_proxy.cut()
        lasting(choose.uniform(0.01, 0.2))


def half_close_postgres(stage: Stage, choose: random.Random) -> None:
    """Connections end for us, and go on for Postgres with whatever they were doing."""
    for _ in range(choose.randrange(3, 8)):
        stage.servers.postgres_proxy.half_close()
        lasting(choose.uniform(0.05, 0.3))


def slow_postgres(stage: Stage, choose: random.Random) -> None:
    """Everything to and from Postgres takes long, and is then cut."""
    stage.servers.postgres_proxy.delay(choose.uniform(0.1, 0.4))
    lasting(2)
    stage.servers.postgres_proxy.cut()
    stage.servers.postgres_proxy.delay(0)


def cut_kafka(stage: Stage, choose: random.Random) -> None:
    """All connections to Kafka are reset, many times."""
    for _ in range(choose.randrange(10, 20)):
        stage.servers.kafka_proxy.cut()
        lasting(choose.uniform(0.05, 0.4))


def lose_kafka(stage: Stage, choose: random.Random) -> None:
    """Kafka can't be reached for longer than a session, while Postgres can."""
    stage.servers.kafka_proxy.refuse()
    lasting(SESSION_TIMEOUT + choose.uniform(1, 3))
    stage.servers.kafka_proxy.accept()


def slow_kafka(stage: Stage, choose: random.Random) -> None:
    """Everything to and from Kafka takes long; heartbeats still arrive."""
    stage.servers.kafka_proxy.delay(choose.uniform(0.1, 0.3))
    lasting(4)
    stage.servers.kafka_proxy.delay(0)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_instance, stop_instance, freeze_instance, terminate_backends, restart_postgres,
        kill_postgres, restart_kafka, kill_kafka, lose_answers, cut_postgres, half_close_postgres,
        slow_postgres, cut_kafka, lose_kafka, slow_kafka,
    )
}  # fmt: skip
INSTANCE_FAULTS = ("kill_instance", "stop_instance", "freeze_instance")
"""Those that touch an instance; the others touch a server, or the way to it."""
