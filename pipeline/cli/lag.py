"""``pipeline lag``: message lag and time lag, from Kafka alone."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence

from pipeline.cli.common import add_config, loaded, report
from pipeline.errors import PipelineError
from pipeline.kafka.reader import FETCH_BYTES
from pipeline.operate.cluster import open_cluster
from pipeline.operate.console import cut_middle, duration, table, width
from pipeline.operate.lag import PartitionLag, as_json, measure, totals

EPILOG = """\
Message lag counts what is not applied: the end of the log minus the group's
watermark. Time lag is the age of the oldest record not applied. Both hold while
no instance runs, too; while one does, they are up to a second old, the time
between two commits.

with --json, on one line:
  {"group": "...",
   "partitions": [{"topic": "...", "partition": 0,
                   "start": 0,              first offset in the log
                   "end": 120,              the offset after the last record
                   "committed": 100,        the watermark; null: none was set
                   "message_lag": 20,
                   "time_lag_seconds": 1.5  0: nothing waits; null: not readable
                  }, ...],
   "total": {"message_lag": 20, "time_lag_seconds": 1.5}}

exit codes:
  0  measured
  1  Kafka does not answer, or a topic does not exist
  2  a mistake in the configuration

example:
  pipeline lag --config sessions.toml
  pipeline lag --config sessions.toml --json | jq .total.time_lag_seconds
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.epilog = EPILOG


def main(args: argparse.Namespace) -> int:
    """Measure once and print."""
    config = loaded(args.config)
    if config is None:
        return 2
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what matters of it is in our message
    try:
        with open_cluster(config, max_partition_fetch_bytes=FETCH_BYTES) as cluster:
            lags = measure(cluster, config)
    except PipelineError as error:
        report(error)
        return 1
    if args.json:
        print(json.dumps(as_json(config.kafka.group_id, lags)))
    else:
        print("\n".join(lines_of(config.kafka.group_id, lags)))
    return 0


def lines_of(group: str, lags: Sequence[PartitionLag]) -> list[str]:
    """The table, with its totals."""
    rows = [["partition", "committed", "end", "message lag", "time lag"]]
    for lag in lags:
        committed = "-" if lag.committed is None else str(lag.committed)
        name = cut_middle(str(lag.source), 30)
        rows.append([name, committed, str(lag.end), str(lag.message_lag), _age(lag.time_lag)])
    messages, age = totals(lags)
    rows.append(["total", "", "", str(messages), _age(age)])
    return [f"group {group}", *table(rows, right=(1, 2, 3, 4), columns=width())]


def _age(seconds: float | None) -> str:
    return "?" if seconds is None else "0" if seconds == 0 else duration(seconds)
