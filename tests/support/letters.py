"""Dead letters made by hand, as the pipeline makes them, and ``pipeline dlq`` on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from kafka import KafkaProducer

from pipeline.cli import main
from pipeline.kafka.letter_forms import headers_of, without_nulls
from pipeline.records.disposition import DeadLetterReason
from pipeline.records.record import Record, TopicPartition
from tests.support.pipelines import Job, JobFactory
from tests.support.records import Raw
from tests.support.servers import TopicFactory

DSN = "postgresql://nobody@127.0.0.1:1/none"
"""Nothing listens there, and nothing may ask."""

REFUSED = DeadLetterReason("value out of range", "NumericValueOutOfRangeError", "22003", 2)
UNDECODED = DeadLetterReason("the value is not JSON: line 1", "DecodeError")


class Letters:
    """A job without instances, and dead letters of it made by hand, as the pipeline makes them."""

    def __init__(self, job: Job, topic: str) -> None:
        self.job = job
        self.topic = topic
        job.write_config({"db0": (DSN, "")}, errors=f'dead_letter_topic = "{topic}"')

    def put(
        self,
        source_offset: int,
        key: str | None,
        why: DeadLetterReason = REFUSED,
        *,
        value: bytes | None = b'{"n": 1}',
        source: int = 0,
        at: int = 0,
        group: str = "",
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        """Keep a record as a dead letter, in partition ``at`` of the dead letter topic."""
        raw = Raw(source_offset, None if key is None else key.encode(), value, headers)
        record = Record(TopicPartition(self.job.topic, source), source_offset, raw, None, key)
        added = headers_of(record, why, group or self.job.group.group)
        kept, own = without_nulls(record)
        producer = KafkaProducer(bootstrap_servers=self.job.bootstrap)
        producer.send(
            self.topic, key=raw.key, value=kept, headers=[*own, *added],
            partition=at, timestamp_ms=raw.timestamp,
        )  # fmt: skip
        producer.flush()
        producer.close()

    def sent(self, partition: int = 0) -> list[str]:
        """The keys of what is on a partition of the source topic, in order."""
        return [record.key.decode() for record in self.job.log()[partition]]


Output = pytest.CaptureFixture[str]
Dlq = Callable[..., list[str]]


@pytest.fixture
def letters(new_job: JobFactory, topic: TopicFactory) -> Letters:
    """One source partition, one partition of dead letters."""
    return Letters(new_job(1), topic(1))


@pytest.fixture
def dlq(capsys: Output) -> Dlq:
    """Run ``pipeline dlq``; the lines it prints."""

    def run(letters: Letters, *words: str, code: int = 0) -> list[str]:
        assert main(["dlq", *words, "--config", str(letters.job.config)]) == code
        captured = capsys.readouterr()
        return (captured.out if code == 0 else captured.err).splitlines()

    return run


def offsets(lines: Sequence[str]) -> list[str]:
    """The offsets in what list prints."""
    last = next(n for n, line in enumerate(lines) if " dead letter" in line)
    return [line.split()[0] for line in lines[1:last]]
