"""Rewinding: the group's offsets and the ledgers moved together, while no instance runs.

The order of the steps, and why a crash between any two of them is safe:

1. `prepare`: the group must be empty. What each ledger holds is read, with the epochs.
2. `carry_out` sets the group's offsets in Kafka, which refuses if a member has joined since. A crash
   after this step leaves the ledgers as they were, and an instance that starts then believes them.
   Going back, the instance begins where it would have begun without the rewind (and logs that the
   group's offset was set back from outside). Skipping, it begins at the new offset, as intended.
   Nothing is applied twice. The other order would not be safe: the ledger would have forgotten what
   was applied out of order above the group's old offset, which is where that instance begins.
3. `carry_out` then resets each shard's ledger in one transaction, and only if no epoch has changed
   since step 1. So an instance that started in between is noticed, and keeps what it has. A crash
   between two shards leaves some partitions moved and others not; each is consistent by itself.

Run again, the command finishes what was interrupted, best with ``committed`` as the target: Kafka has
all of the new offsets by then, and a partition that was finished has nothing left to move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.config.model import Config
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError
from pipeline.operate import ledgers
from pipeline.operate.cluster import Cluster
from pipeline.operate.rewind_plan import RewindPlan, commits_of, plan, resets_of
from pipeline.operate.rewind_targets import Target, resolve
from pipeline.records.record import TopicPartition
from pipeline.runtime import interrupt

IDLE_STATES = ("Empty", "Dead")

UNFINISHED = (
    "the group's offsets are set, but not every ledger: a shard whose ledger is not set goes on as if "
    "nothing had happened, and nothing is lost. To finish: pipeline rewind --to committed"
)

Report = Callable[[str], object]
"""Called with a line of text for the operator."""


def prepare(
    cluster: Cluster, config: Config, target: Target, sources: Sequence[TopicPartition]
) -> RewindPlan:
    """Make sure that no instance runs, read the ledgers, and plan. Changes nothing.

    Blocks; reads the ledgers in Trio, so it must not be called from Trio.

    Raises:
        PipelineError: an instance runs, the target is not in the log, or a shard doesn't answer.
        KeyboardInterrupt: Ctrl-C.
    """
    check_idle(cluster)
    bounds, committed = cluster.bounds(sources), cluster.committed(sources)
    targets = resolve(cluster, target, committed, bounds)
    claims = _claims(config, cluster, sources)
    entries = interrupt.run(partial(ledgers.read, config, claims.values())) if claims else {}
    return RewindPlan(plan(config, targets, committed, bounds, entries), claims)


def carry_out(
    cluster: Cluster, config: Config, plan: RewindPlan, report: Report, warn: Report
) -> None:
    """Move the group's offsets and then the ledgers; the module's docstring says why in this order.

    Blocks; resets the ledgers in Trio, so it must not be called from Trio.

    Args:
        report: called after each step that is done.
        warn: called if it ends between two steps, with what to do next.

    Raises:
        PipelineError: an instance runs, or a shard doesn't answer.
        KeyboardInterrupt: Ctrl-C.
    """
    cluster.commit(commits_of(config, plan.moves))
    report("the group's offsets are set")
    if not plan.claims:
        return
    resets = resets_of(plan.claims, plan.moves)
    try:
        interrupt.run(
            partial(
                ledgers.reset,
                config,
                resets,
                lambda shard: report(f"the ledger is set in shard {shard}"),
            )
        )
    except BaseException:  # also at Ctrl-C: the operator must know what is done and what is not
        warn(UNFINISHED)
        raise


def _claims(
    config: Config, cluster: Cluster, sources: Sequence[TopicPartition]
) -> dict[TopicPartition, Claim]:
    if not config.pipeline.exactly_once:
        return {}
    group = config.kafka.group_id
    return {source: Claim(group, source, cluster.topic_id(source.topic)) for source in sources}


def check_idle(cluster: Cluster) -> None:
    """Raise unless no instance runs.

    Raises:
        PipelineError: the group has members.
    """
    state, members = cluster.group()
    if state not in IDLE_STATES:
        who = f": {', '.join(members)}" if members else ""
        raise PipelineError(
            f"group {cluster.kafka.group_id} is in use ({state}{who}). Stop all instances first; "
            "one that was killed leaves the group when its session times out"
        )
