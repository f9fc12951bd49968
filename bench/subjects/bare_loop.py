"""The bare loop: how fast the same libraries are if nothing is guaranteed.

kafka-python's poll, orjson, a fold, and one ``unnest`` upsert per poll, through asyncpg behind
trio-asyncio, one transaction per partition at a time and two at once in all. No ledger, no fence, no
order beyond the partition's, no drain, no retries, no metrics; offsets are committed once per second,
whatever has been written. `bench.throughput` compares the pipeline with it.

``--fast`` puts aiokafka's compiled record batch behind kafka-python's fetcher.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import trio
import trio_asyncio
from aiokafka.record._crecords.default_records import DefaultRecordBatch
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError

from bench.subjects.peers.upsert import Writer, arguments, columns, folded

WRITERS = 2
POLL_RECORDS = 4000


def main() -> None:
    """Run until it is killed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--fast", action="store_true", help="decode with aiokafka's compiled batch")
    options = parser.parse_args()
    if options.fast:
        Fetcher.PartitionRecords._unpack_records = compiled_records  # type: ignore[assignment, method-assign]
    trio.run(loop, options)


async def loop(options: Any) -> None:
    """Poll, and send each partition's records to the partition's own task, in order."""
    consumer = KafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        auto_offset_reset="earliest",
        auto_commit_interval_ms=1000,
        max_poll_records=POLL_RECORDS,
        fetch_max_bytes=16 * 1024 * 1024,
        metrics_enabled=False,
    )
    poll = partial(consumer.poll, timeout_ms=500)
    lanes: dict[Any, trio.MemorySendChannel[list[Any]]] = {}
    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        free, idle = trio.open_memory_channel[Writer](WRITERS)
        for _ in range(WRITERS):
            await free.send(await trio_asyncio.aio_as_trio(Writer.open)(options.dsn))
        while True:
            for partition, records in (await trio.to_thread.run_sync(poll)).items():
                if partition not in lanes:
                    # One place: the next poll's records are decoded while the last ones are written.
                    lanes[partition], receive = trio.open_memory_channel[list[Any]](1)
                    nursery.start_soon(lane, receive, free, idle)
                await lanes[partition].send(records)


async def lane(
    receive: trio.MemoryReceiveChannel[list[Any]],
    free: trio.MemorySendChannel[Writer],
    idle: trio.MemoryReceiveChannel[Writer],
) -> None:
    """Write the batches of one partition, one after the other, on any idle connection."""
    async for records in receive:
        arrays = columns(folded([record.value for record in records]))
        writer = await idle.receive()
        await trio_asyncio.aio_as_trio(writer.write)(arrays)
        await free.send(writer)


def compiled_records(
    self: Any, tp: Any, records: Any, _key_deserializer: Any, _value_deserializer: Any
) -> Iterator[Any]:
    """Replace `Fetcher.PartitionRecords._unpack_records` by aiokafka's compiled batch.

    The CRC is checked and control batches are skipped; aborted transactions aren't, the topic has none.
    """
    while (batch := records.next_batch()) is not None:
        compiled = DefaultRecordBatch(bytes(batch._buffer))
        if not compiled.validate_crc():
            raise CorruptRecordError(f"{tp}: bad CRC at offset {compiled.base_offset}")
        if not compiled.is_control_batch:
            for record in compiled:
                self.next_fetch_offset = record.offset + 1
                yield record
        self.next_fetch_offset = compiled.next_offset
    self.drain()


if __name__ == "__main__":
    main()
