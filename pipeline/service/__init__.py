"""The composition root of `pipeline run`: the only room that knows both sides.

::

    run
    ├── shard …      connections and breaker of each database
    ├── supervisor   assignment, partition tasks, commits
    ├── http         / /metrics /livez /readyz
    ├── reports      what the service manager is told, if there is one
    └── signals      SIGTERM, SIGINT, SIGHUP: drain, commit, leave; a second one, or one too early: cancel

    resources   what is held open meanwhile: Kafka's client, the dead letter topic, tracing
    contexts    what partitions and lanes share, by the configuration
    instance    the parts, and how they know each other
    reload      what can change while they run
"""

from __future__ import annotations

import trio

from pipeline.config.model import Config
from pipeline.consumer.assignment import Supervisor
from pipeline.kafka.rights import demand_rights
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.bridge import open_bridge
from pipeline.runtime import signals
from pipeline.service.instance import Instance
from pipeline.service.reload import UNUSED, stop_seconds
from pipeline.service.resources import open_resources
from pipeline.supervise.reports import Reports
from pipeline.supervise.stop import Stop
from pipeline.supervise.supervision import Supervision


async def run(
    config: Config,
    supervision: Supervision = Supervision(),  # noqa: B008 (frozen)
    *,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Consume until SIGTERM, SIGINT or SIGHUP, or until a task fails. On the main thread.

    Under a service manager (``supervision``) SIGHUP reads the configuration again instead.

    Raises:
        PipelineError: a person must mend something; perhaps several, in an exception group.
    """
    metrics = Metrics()
    with signals.received() as received:
        async with open_bridge(), trio.open_nursery() as process:
            reports = Reports(supervision.notifier)
            process.start_soon(reports.run)
            stop = Stop(process.cancel_scope, reports, stop_seconds(config))
            process.start_soon(stop.carry_out, received)
            await demand_rights(config.kafka, config.pipeline.name)
            async with open_resources(config, metrics, process) as resources:
                instance = Instance(config, metrics, resources, process)
                reports.tell_of(instance.standing)
                async with trio.open_nursery() as membership:
                    await instance.start(process, membership)
                    task_status.started(instance.supervisor)
                    reload = supervision.reloading(config, instance.live(stop), UNUSED)
                    with stop.draining_by(instance.supervisor.stop, reload):
                        await instance.supervisor.run()
                    membership.cancel_scope.cancel()
            process.cancel_scope.cancel()
