"""kafka-python's fetcher and what it has fetched of paused partitions."""

from __future__ import annotations

from typing import Any


def resume_parked_fetches(fetcher: Any) -> None:
    """Let resumed partitions' parked records back in line. Before each poll, on its thread.

    kafka-python 3.0.12 parks what it has fetched of a paused partition, and takes it back only when
    no partition is in line. Two kinds are in line and give nothing:

    - One that was read to its end. With every other partition at its end, a resumed one then waits
      until somebody produces a record elsewhere.
    - One that was paused since the last poll. The poll parks it and finds nothing else: where many
      partitions are paused and resumed, every second poll waits in vain.
    """
    in_line = fetcher._next_partition_records
    if in_line is None:
        return
    if in_line:
        source = in_line.topic_partition
        if not fetcher._subscriptions.is_paused(source):
            return
        # Parked first: the I/O thread, which asks for what is neither parked nor in line, must
        # find it in one of the two.
        fetcher._paused_partition_records[source] = in_line
    fetcher._next_partition_records = None
