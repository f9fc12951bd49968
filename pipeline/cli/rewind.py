"""``pipeline rewind``: a deliberate replay."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from pipeline.cli.common import add_config, known, loaded, report
from pipeline.config.model import Config
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError
from pipeline.operate import ledgers, rewind
from pipeline.operate.cluster import Cluster, open_cluster
from pipeline.operate.console import confirmed, cut_middle, table, width
from pipeline.records.record import TopicPartition
from pipeline.runtime import interrupt

EPILOG = """\
Moves where the consumer group goes on, and what the ledger in each database
says is applied, together. Going back, records are applied again; going forward,
they are skipped. It works only while no instance runs, shows what will change,
and asks. Interrupted, it is finished by --to committed.

where to:
  1200               an offset (of one partition: see --partition)
  2026-05-01T12:00   the first record from then on; UTC unless it says +02:00
  2h                 the first record from two hours ago on (s, m, h or d)
  earliest, latest   the ends of the log
  committed          the offset that the group has: the ledger follows it

exit codes:
  0  done, or there was nothing to change
  1  not done: an instance runs, a server does not answer, or the answer was no
  2  a mistake in what was given

example:
  pipeline rewind --config sessions.toml --to 2h
  pipeline rewind --config sessions.toml --to 1200 --partition 3 --yes
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_config(parser)
    parser.add_argument(
        "--to", required=True, metavar="WHERE", help="an offset, a time, an age, or a word: below"
    )
    parser.add_argument("--topic", help="only this topic (default: all of the configuration)")
    parser.add_argument("--partition", type=int, metavar="N", help="only this partition")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.epilog = EPILOG


def main(args: argparse.Namespace) -> int:
    """Plan, ask, carry out."""
    config = loaded(args.config)
    if config is None:
        return 2
    try:
        target = rewind.parse_target(args.to)
    except ValueError as error:
        print(f"pipeline rewind: --to {error}", file=sys.stderr)
        return 2
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what matters of it is in our message
    try:
        with open_cluster(config) as cluster:
            return _rewind(config, cluster, target, args)
    except (PipelineError, BaseExceptionGroup) as error:
        if not known(error):
            raise
        report(error)
        return 1


def _rewind(
    config: Config, cluster: Cluster, target: rewind.Target, args: argparse.Namespace
) -> int:
    sources = rewind.choose_partitions(cluster, config, args.topic, args.partition)
    rewind.check_idle(cluster)
    bounds, committed = cluster.bounds(sources), cluster.committed(sources)
    targets = rewind.resolve(cluster, target, committed, bounds)
    claims = _claims(config, cluster, sources)
    entries = interrupt.run(partial(ledgers.read, config, claims.values())) if claims else {}
    changes = rewind.plan(config, targets, committed, bounds, entries)
    print("\n".join(summary(config, changes)))
    if not confirmed("Go on?", args.yes):
        print("nothing was changed")
        return 1
    cluster.commit(rewind.commits_of(config, changes))
    print("the group's offsets are set", flush=True)
    if claims:
        _reset_ledgers(config, rewind.resets_of(claims, changes))
    print("done: instances may be started")
    return 0


def _reset_ledgers(config: Config, resets: Sequence[ledgers.Reset]) -> None:
    told = partial(print, "the ledger is set in shard", flush=True)
    try:
        interrupt.run(partial(ledgers.reset, config, resets, told))
    except BaseException:  # at Ctrl-C too, say what is done and what is not
        print(
            "pipeline: the group's offsets are set, but not every ledger: where it isn't, the "
            "ledger still holds, and nothing is lost. To finish: pipeline rewind --to committed",
            file=sys.stderr,
        )
        raise


def _claims(
    config: Config, cluster: Cluster, sources: Sequence[TopicPartition]
) -> dict[TopicPartition, Claim]:
    """What names the partitions in the ledger; none where there is no ledger."""
    if not config.pipeline.exactly_once:
        return {}
    group = config.kafka.group_id
    return {source: Claim(group, source, cluster.topic_id(source.topic)) for source in sources}


def summary(config: Config, changes: Sequence[rewind.Change]) -> Iterator[str]:
    """What will change, a line a partition, and what follows from it."""
    rows = [["partition", "from", "to", "applied again", "skipped", "shard"]]
    for change in changes:
        rows.append(
            [cut_middle(str(change.source), 28), str(change.begin), str(change.to),
             str(change.again), str(change.skipped), change.shard]
        )  # fmt: skip
    yield f"group {config.kafka.group_id}"
    yield from table(rows, right=(1, 2, 3, 4), columns=width())
    again, skipped = (sum(getattr(c, name) for c in changes) for name in ("again", "skipped"))
    yield f"in all: up to {again} records applied again, up to {skipped} skipped for good"
    if again:
        yield from _consequences(config)
    if skipped:
        yield "skipped records are never applied, unless you rewind again"


def _consequences(config: Config) -> Iterator[str]:
    sink = config.sink
    if sink.handler is not None:
        yield f"handler {sink.handler} is called again for them"
        return
    added = [column.name for column in sink.columns if column.merge == "add"]
    if added:
        plural = "columns" if len(added) > 1 else "column"
        yield f"they count again in the {plural} merged with add: {', '.join(added)}"
    if sink.mode == "insert":
        yield f"they are inserted again into {sink.table}, where no unique index forbids it"
    last = [column.name for column in sink.columns if column.merge == "last"]
    if last and sink.mode != "insert":
        yield "columns merged with last show older values until the replay has caught up"
