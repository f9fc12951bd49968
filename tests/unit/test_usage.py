"""Each tenant's and each key's part of what was applied."""

from __future__ import annotations

import re

import pytest

from pipeline.consumer.channels import KeyChannels
from pipeline.consumer.usage import TOP, Usage
from pipeline.consumer.usage_gauges import UsageGauges
from pipeline.observe.metrics import Metrics
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path
from pipeline.records.record import Record, TopicPartition
from pipeline.records.rows import Shape
from tests.support.records import Raw

SOURCE = TopicPartition("events", 0)


def decoded(
    values: list[bytes | None], *, keys: str = "id", shape: Shape | None = None
) -> list[Record]:
    decode = json_decoder(
        [Path.parse(key) for key in keys.split()], shape, reads=[Path.parse("app")]
    )
    return decode(SOURCE, [Raw(offset, None, value) for offset, value in enumerate(values)])


def usage() -> Usage:
    return Usage(Path.parse("app"), clock=lambda: 0.0)


VALUES: list[bytes | None] = [
    b'{"id": 1, "app": "a"}', b'{"id": 1, "app": "a"}', b'{"id": 2, "app": "a"}',
    b'{"id": 3, "app": "b"}',
]  # fmt: skip


@pytest.mark.parametrize("shape", [None, Shape(("id",))], ids=["documents", "rows"])
def test_records_rows_and_seconds_are_shared_out(shape: Shape | None) -> None:
    found = usage()
    found.applied(decoded(VALUES, shape=shape), seconds=4.0)
    first, second = found.tenants.top(9, 0.0)
    assert (first.name, first.records, first.rows, first.seconds) == ("a", 3, 2, 3.0)
    assert (second.name, second.records, second.rows, second.seconds) == ("b", 1, 1, 1.0)
    assert [(key.name, key.records) for key in found.keys.top(9, 0.0)] == [(1, 2), (2, 1), (3, 1)]


@pytest.mark.parametrize("shape", [None, Shape(("id",))], ids=["documents", "rows"])
def test_what_has_no_tenant_counts_for_none(shape: Shape | None) -> None:
    found = usage()
    values = [
        *VALUES,
        b'{"id": 4}',
        b'{"id": 5, "app": null}',
        b'{"id": 6, "app": [1]}',
        b"{",
        None,
    ]
    found.applied(decoded(values, shape=shape), seconds=9.0)
    assert {tenant.name: tenant.records for tenant in found.tenants.top(9, 0.0)} == {"a": 3, "b": 1}


def test_a_record_of_two_keys_counts_for_both() -> None:
    found = usage()
    found.applied(decoded(VALUES, keys="id app"), seconds=1.0)
    assert {key.name: key.records for key in found.keys.top(9, 0.0)} == {
        1: 2,
        2: 1,
        3: 1,
        "a": 3,
        "b": 1,
    }


def test_a_tenant_by_the_message_key_or_a_header_is_known_too() -> None:
    found = Usage(Path.parse("@key"), clock=lambda: 0.0)
    decode = json_decoder([Path.parse("id")])
    found.applied(decode(SOURCE, [Raw(0, b"app-7", b'{"id": 1}')]), seconds=1.0)
    assert [tenant.name for tenant in found.tenants.top(9, 0.0)] == ["app-7"]


class Task:
    """A partition task, as far as gauges look at it."""

    def __init__(self, waiting: list[Record]) -> None:
        self.source = SOURCE
        self.writers = self
        self.channels = KeyChannels()
        self.channels.put(waiting)


def series(metrics: Metrics, name: str, label: str) -> dict[str, float]:
    """The series of a metric, by one of their labels."""
    found = re.findall(rf'^{name}{{.*?\b{label}="(.*?)".*}} (.*)$', metrics.render().decode(), re.M)
    return {value: float(number) for value, number in found}


def test_the_heaviest_tenants_are_a_counter_each_and_the_others_go() -> None:
    metrics, found = Metrics(), usage()
    gauges = UsageGauges(found, list, metrics)
    metrics.exposition.add_source(gauges.set)
    found.applied(decoded(VALUES), seconds=1.0)
    assert series(metrics, "pipeline_tenant_records_total", "tenant") == {"a": 3.0, "b": 1.0}
    found.applied(decoded(VALUES), seconds=1.0)
    assert series(metrics, "pipeline_tenant_records_total", "tenant") == {"a": 6.0, "b": 2.0}
    many = [b'{"id": 1, "app": "t%d"}' % (number % TOP) for number in range(100 * TOP)]
    found.applied(decoded(list(many)), seconds=1.0)
    told = series(metrics, "pipeline_tenant_records_total", "tenant")
    assert len(told) == TOP
    assert "b" not in told


def test_how_long_a_heavy_key_waits_is_told_while_it_waits() -> None:
    metrics, found = Metrics(), usage()
    found.applied(decoded(VALUES), seconds=1.0)
    waiting = decoded([b'{"id": 1, "app": "a"}', b'{"id": 77, "app": "a"}'])
    now = waiting[0].timestamp / 1000 + 30
    tasks = [Task(waiting)]
    gauges = UsageGauges(found, lambda: tasks, metrics, lambda: now)  # type: ignore[arg-type, return-value]
    metrics.exposition.add_source(gauges.set)
    assert series(metrics, "pipeline_key_waiting_seconds", "key") == {"1": 30.0}
    tasks.clear()
    assert series(metrics, "pipeline_key_waiting_seconds", "key") == {}
