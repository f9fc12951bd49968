"""``pipeline lag``: message lag and time lag, from Kafka alone."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

from pipeline.cli.common import with_config
from pipeline.cli.parsers import add_config
from pipeline.config.model import Config
from pipeline.kafka.control_topic import control_topic_of
from pipeline.kafka.reader import FETCH_BYTES
from pipeline.operate import lag
from pipeline.operate.cluster import open_cluster
from pipeline.operate.views import lag_lines

EPILOG = """\
Message lag counts what is not applied: the end of the log minus the group's
watermark. Time lag is the age of the oldest record that is not applied. Both
are measured from Kafka alone, so no instance needs to run. While one runs, they
are up to a second old, the time between two commits.

with --json, on one line:
  {"group": "...",
   "partitions": [{"topic": "...", "partition": 0,
                   "start": 0,              first offset in the log
                   "end": 120,              the offset after the last record
                   "committed": 100,        the watermark; null: none committed
                   "message_lag": 20,
                   "time_lag_seconds": 1.5, 0: nothing waits; null: not readable
                   "paused": null           or the pause, as pause list has it
                  }, ...],
   "total": {"message_lag": 20, "time_lag_seconds": 1.5}}

exit codes:
  0  measured
  1  Kafka does not answer
  2  a mistake in the configuration, or Kafka refuses what is configured: a
     password, a certificate, a right, a topic that does not exist

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
    """Measure once, print, and return the exit code."""
    return with_config(args.config, partial(_measure, as_json=args.json))


def _measure(config: Config, *, as_json: bool) -> int:
    with open_cluster(config, max_partition_fetch_bytes=FETCH_BYTES) as cluster:
        pauses = lag.pauses_of(cluster)
        lags = lag.measure(cluster, config, pauses or ())
    if pauses is None:
        topic = control_topic_of(config.kafka.group_id)
        print(f"note: what is paused is not shown: no right to read {topic}", file=sys.stderr)
    group = config.kafka.group_id
    if as_json:
        print(json.dumps(lag.as_json(group, lags)))
    else:
        print("\n".join(lag_lines(group, lags)))
    return 0
