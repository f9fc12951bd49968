"""How the demo is shown: a live table on a terminal, a line every two seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.demo.progress import DemoProgress, PartitionProgress
from pipeline.demo.stage import SHARDS

PLAIN_SECONDS = 2.0
WIDTH = 80


class Display:
    """Shows progress, and says what happens. Each line has the seconds since the beginning."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._start = time.monotonic()
        self._live: Live | None = None
        self._shown = float("-inf")

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def say(self, what: str) -> None:
        """Print a line that stays."""
        lines = Text(what).wrap(self.console, min(self.console.width, WIDTH) - 7)
        for number, line in enumerate(lines):
            line.rstrip()
            head = f"{self.elapsed:4.0f} s" if number == 0 else " " * 6
            self.console.print(Text(head, style="bold") + Text(" ") + line, soft_wrap=True)

    def show(self, progress: DemoProgress) -> None:
        """Show progress: in the live table, or as a line if the last one is old enough."""
        if self.console.is_terminal:
            if self._live is None:
                self._live = Live(console=self.console, auto_refresh=False, transient=False)
                self._live.start()
            self._live.update(picture(progress), refresh=True)
        elif self.elapsed - self._shown >= PLAIN_SECONDS:
            self._shown = self.elapsed
            self.say(line(progress))

    def freeze(self) -> None:
        """Leave the table as it is; what is said next is printed below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None


@contextmanager
def open_display() -> Iterator[Display]:
    """Open the display; at the end of the block the terminal is as it was."""
    display = Display()
    try:
        yield display
    finally:
        display.freeze()


def line(progress: DemoProgress) -> str:
    """Return progress as one line that fits beside the time."""
    return (
        f"sent {progress.sent:,}, applied {progress.applied:,} ({progress.rate:,.0f}/s), "
        f"lag {progress.message_lag:,}, {progress.time_lag:.1f} s"
    )


def picture(progress: DemoProgress) -> Group:
    """Return progress as a table: one line per partition, and a sum for each shard."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("shard")
    table.add_column("partition")
    table.add_column("instance")
    for name in ("sent", "applied", "per second", "lag", "time lag"):
        table.add_column(name, justify="right")
    for shard in SHARDS:
        partitions = progress.of_shard(shard)
        for partition in partitions:
            table.add_row(*_cells(partition), style=_style(partition))
        table.add_row(*_sum_cells(shard, partitions), style="bold", end_section=True)
    total = Text(
        f"sending {progress.sent_rate:,.0f}/s, applying {progress.rate:,.0f}/s; "
        f"{progress.message_lag:,} wait, the oldest for {progress.time_lag:,.0f} s"
    )
    return Group(Text(""), table, Text(""), total)


def _cells(partition: PartitionProgress) -> list[str]:
    return [
        "",
        str(partition.number),
        partition.owner or "-",
        f"{partition.sent:,}",
        f"{partition.applied:,}",
        f"{partition.rate:,.0f}",
        f"{partition.message_lag:,}",
        f"{partition.time_lag:.1f} s",
    ]


def _sum_cells(shard: str, partitions: list[PartitionProgress]) -> list[str]:
    return [
        shard,
        "all",
        "",
        f"{sum(p.sent for p in partitions):,}",
        f"{sum(p.applied for p in partitions):,}",
        f"{sum(p.rate for p in partitions):,.0f}",
        f"{sum(p.message_lag for p in partitions):,}",
        f"{max(p.time_lag for p in partitions):.1f} s",
    ]


def _style(partition: PartitionProgress) -> str:
    return "yellow" if partition.time_lag > 1.0 else "none"
