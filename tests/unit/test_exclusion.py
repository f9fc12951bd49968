"""Two that settle dead letters at once: what only happens when they start in the same moment."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError
from pipeline.operate import exclusion
from pipeline.records.record import TopicPartition


class StandInConsumer:
    """Joined at once; the last one made is kept."""

    made: StandInConsumer
    DEFAULT_CONFIG: dict[str, Any] = {}  # noqa: RUF012 (as kafka-python's)

    def __init__(self, **options: Any) -> None:
        self.client_id = options["client_id"]
        self.closed = False
        StandInConsumer.made = self

    def subscribe(self, topics: list[str]) -> None: ...

    def partitions_for_topic(self, topic: str) -> None: ...

    def poll(self, timeout_ms: float) -> None: ...

    def assignment(self) -> set[int]:
        return {0}

    def close(self) -> None:
        self.closed = True


class StandInCluster:
    """Its group is empty when it is first looked at; later others are in it, and whoever joined."""

    kafka = KafkaConfig(("b:1",), ("t",), "g")
    client_id = "name"

    def __init__(self, others: dict[str, str]) -> None:
        self.others = others
        self.looks = 0

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, 0)]

    def members(self, group: str) -> dict[str, str]:
        assert group == "g.dead"
        self.looks += 1
        if self.looks == 1:
            return {}
        return {"m-1": f"{StandInConsumer.made.client_id} at /here", **self.others}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusion, "KafkaConsumer", StandInConsumer)


def test_of_two_that_joined_at_once_none_goes_on_beside_the_other() -> None:
    cluster: Any = StandInCluster({"m-2": "name.77 at /there"})
    with (
        pytest.raises(PipelineError, match=r"name\.77 at /there.*nothing was done"),
        exclusion.alone(cluster, "dead"),
    ):
        pytest.fail("it is not alone")
    assert StandInConsumer.made.closed


def test_one_that_joins_later_finds_the_first_and_does_not_trouble_it() -> None:
    cluster: Any = StandInCluster({})
    with exclusion.alone(cluster, "dead") as check:
        cluster.others = {"m-2": "name.77 at /there"}
        check()
    assert StandInConsumer.made.closed
