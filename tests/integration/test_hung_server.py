"""One of three brokers hangs, the first that the configuration names: nothing is spoilt by it."""

from __future__ import annotations

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from kafka.errors import KafkaError

from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from tests.support import accounts
from tests.support.brokers import Broker, Cluster
from tests.support.commands import command
from tests.support.pipelines import PATIENCE, Job
from tests.support.servers import DatabaseFactory, TopicFactory

pytestmark = [pytest.mark.real, pytest.mark.chaos, pytest.mark.slow]


def _has_nothing(brokers: Cluster, hung: Broker, name: str) -> bool:
    """Whether the others lead the topic's partitions, and coordinate the group."""
    with suppress(KafkaError, LookupError):
        leaders = [brokers.leader(name, partition) for partition in range(3)]
        return hung not in [*leaders, brokers.coordinator(name)]
    return False


def test_a_hung_server_spoils_no_start_and_no_command(
    brokers: Cluster, broker_topic: TopicFactory, database: DatabaseFactory, tmp_path: Path
) -> None:
    """kafka-python gave one of the servers, drawn at random, all the time that it had."""
    dsn = database()
    psql(dsn, accounts.TABLE)
    name = broker_topic(3)
    hung = brokers.broker(1)
    rest = [broker for broker in brokers.brokers if broker is not hung]
    job = Job(",".join(broker.bootstrap for broker in rest), name, name, tmp_path)
    try:
        job.produce(accounts.changes(30, keys=6, seed=1))
        job.write_config({"db0": (dsn, "")})
        servers = ", ".join(f'"{broker.bootstrap}"' for broker in brokers.brokers)
        lines = [
            f"bootstrap_servers = [{servers}]" if line.startswith("bootstrap_servers") else line
            for line in job.config.read_text().splitlines()
        ]
        job.config.write_text("\n".join(lines))
        hung.kill(signal.SIGSTOP)
        assert wait_until(partial(_has_nothing, brokers, hung, name), PATIENCE)
        for arguments in (("check",), ("lag",)):
            outcome = command(*arguments, "--config", job.config)
            assert outcome.code == 0, outcome
            said = " ".join((outcome.errors + outcome.output).split())
            assert f"{hung.bootstrap} can't be used: no answer within 3 s" in said
        instance = job.start()
        job.wait_caught_up()
        assert f"{hung.bootstrap} can't be used: no answer within 3 s" in instance.output
        assert instance.stop() == 0
    finally:
        hung.kill(signal.SIGCONT)
        job.close()
