"""The Postgres side of the composition root: the stores that a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from pipeline.config.model import Config
from pipeline.contracts.store import DeadLetters
from pipeline.errors import PipelineError, UsageError
from pipeline.observe.metrics import Metrics
from pipeline.postgres.connections.breaker import Breaker
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.handlers.applier import HandlerApplier
from pipeline.postgres.handlers.load import load_handler
from pipeline.postgres.handlers.split import runs, whole
from pipeline.postgres.ledger.ledger import Ledger, PostgresLedger
from pipeline.postgres.ledger.no_ledger import NoLedger
from pipeline.postgres.sink.applier import SinkApplier
from pipeline.postgres.sink.catalog import read_table
from pipeline.postgres.sink.validate import mistakes_of
from pipeline.postgres.store.batch_sizer import BatchSizer
from pipeline.postgres.store.database import Applier, Database
from pipeline.postgres.store.shard_store import ShardStore
from pipeline.postgres.store.store_router import StoreRouter
from pipeline.runtime.backoff import Backoff


def make_store(
    config: Config, metrics: Metrics, dead_letters: DeadLetters, nursery: trio.Nursery
) -> StoreRouter:
    """The stores of all shards. Each connects when its first partition is taken over."""
    waits = Backoff(config.errors.backoff_initial, config.errors.backoff_max)
    handled = config.sink.handler is not None
    stores = {}
    breakers: list[Breaker] = []
    for shard_config in config.shards:
        shard = Shard(
            shard_config, Session.of(config, shard_config), metrics, waits,
            handled=handled, adaptive=config.limits.adaptive,
        )  # fmt: skip
        nursery.start_soon(shard.serve)
        sizer = BatchSizer(config.limits.max_batch, bounded=handled)
        connect = partial(make_database, config, shard, sizer)
        breakers.append(shard.breaker)
        others_work = partial(_others_work, breakers, shard.breaker)
        stores[shard.name] = ShardStore(
            shard,
            connect,
            dead_letters,
            sizer,
            waits,
            others_work=others_work,
            details=config.errors.details,
        )
    return StoreRouter(stores, partial(shard_name, config))


def _others_work(breakers: Sequence[Breaker], own: Breaker) -> bool:
    return any(other.stopped is None for other in breakers if other is not own)


def shard_name(config: Config, partition: int) -> str:
    """Return the name of the shard that a partition writes to.

    Raises:
        PipelineError: no shard covers the partition.
    """
    try:
        return config.shard_for(partition).name
    except LookupError as error:
        raise PipelineError(str(error)) from error


async def make_database(config: Config, shard: Shard, sizer: BatchSizer) -> Database:
    """Create or upgrade the ledger's schema, read the sink's table, prepare its statements.

    Raises:
        UsageError: the table does not fit the configuration; every mistake is named.
    """
    ledger: Ledger = NoLedger()
    if config.pipeline.exactly_once:
        receipts = config.ingest is not None and config.ingest.receipts
        ledger = PostgresLedger(shard, config.pipeline.owner, reasons=receipts)
    await ledger.prepare()
    return Database(ledger, await make_applier(config, shard, ledger, sizer))


async def make_applier(config: Config, shard: Shard, ledger: Ledger, sizer: BatchSizer) -> Applier:
    """What the configuration says is done with records on a shard."""
    if config.sink.handler is not None:
        by_key = config.sink.scope == "key"
        return HandlerApplier(
            load_handler(config.sink.handler, Path(config.source)),
            shard,
            ledger,
            runs if by_key else whole,
            apart=by_key and len(config.records.keys) == 1,
            called=sizer.called,
            details=config.errors.details,
        )
    assert config.sink.table is not None, "the configuration has a table or a handler"
    table = await shard.run(partial(read_table, name=config.sink.table))
    mistakes = mistakes_of(config.sink, table)
    if mistakes or table is None:
        key = "sink" if len(config.shards) == 1 else f"shards[{shard.name}]"
        raise UsageError("\n".join(f"{key}: {mistake}" for mistake in mistakes))
    return SinkApplier(config.sink, table, shard, ledger)
