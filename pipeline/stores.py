"""The Postgres side of the composition root: the stores that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio

from pipeline.config.deduplication import deduplication
from pipeline.config.model import Config
from pipeline.contracts.store import DeadLetters
from pipeline.errors import PipelineError, UsageError
from pipeline.observe.metrics import Metrics
from pipeline.observe.tracing import Tracing
from pipeline.postgres.connections.breaker import Breaker
from pipeline.postgres.connections.bridge import Session
from pipeline.postgres.connections.shard import Shard
from pipeline.postgres.handlers.applier import HandlerApplier
from pipeline.postgres.handlers.load import load_handler
from pipeline.postgres.handlers.split import runs, whole
from pipeline.postgres.ledger.keys import IdempotencyKeys
from pipeline.postgres.ledger.ledger import Ledger, PostgresLedger
from pipeline.postgres.ledger.no_ledger import NoLedger
from pipeline.postgres.ledger.tidying import Chore, keys_chore, reasons_chore
from pipeline.postgres.sink.applier import SinkApplier
from pipeline.postgres.sink.catalog import read_table
from pipeline.postgres.sink.validate import mistakes_of
from pipeline.postgres.store.batch_sizer import BatchSizers
from pipeline.postgres.store.database import Applier, Database
from pipeline.postgres.store.retry_policy import RetryPolicy
from pipeline.postgres.store.shard_store import ShardStore
from pipeline.postgres.store.store_router import StoreRouter
from pipeline.records.idempotency import key_digest
from pipeline.records.record import Record, TopicPartition
from pipeline.runtime.backoff import Backoff


def make_store(
    config: Config,
    metrics: Metrics,
    dead_letters: DeadLetters,
    nursery: trio.Nursery,
    tracing: Tracing | None = None,
    may_wait: Callable[[Record], bool] = lambda _: False,
) -> StoreRouter:
    """The stores of all shards. Each connects when its first partition is taken over.

    Args:
        may_wait: whether a record that can't be applied can wait in a lane.

    Raises:
        UsageError: the handler can't be loaded.
    """
    if config.sink.handler is not None:  # a mistake in it is found before the group is joined
        load_handler(config.sink.handler, Path(config.source))
    waits = Backoff(config.errors.backoff_initial, config.errors.backoff_max)
    handled = config.sink.handler is not None
    policy = RetryPolicy(
        config.errors.retry, hold_key=config.errors.on_reject == "hold-key", may_wait=may_wait
    )
    stores = {}
    breakers: list[Breaker] = []
    for shard_config in config.shards:
        shard = Shard(
            shard_config, Session.of(config, shard_config), metrics, waits,
            handled=handled, adaptive=config.limits.adaptive,
        )  # fmt: skip
        nursery.start_soon(shard.serve)
        sizers = BatchSizers(config.limits.max_batch, bounded=handled)
        connect = partial(make_database, config, shard, sizers, tracing)
        breakers.append(shard.breaker)
        others_work = partial(_others_work, breakers, shard.breaker)
        stores[shard.name] = ShardStore(
            shard,
            connect,
            dead_letters,
            sizers,
            waits,
            others_work=others_work,
            details=config.errors.details,
            policy=policy,
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


async def make_database(
    config: Config, shard: Shard, sizers: BatchSizers, tracing: Tracing | None = None
) -> Database:
    """Create or upgrade the ledger's schema, read the sink's table, prepare its statements.

    Raises:
        UsageError: the table does not fit the configuration; every mistake is named.
    """
    ledger: Ledger = NoLedger()
    if config.pipeline.exactly_once:
        receipts = config.ingest is not None and config.ingest.receipts
        dedupes = config.records.dedupe_for is not None
        ledger = PostgresLedger(shard, config.pipeline.owner, reasons=receipts, keys=dedupes)
    await ledger.prepare()
    database = Database(ledger, await make_applier(config, shard, ledger, sizers))
    if tracing is not None:
        # A Callable has no names of parameters, which the function that it replaces has.
        database.write = cast(Any, tracing.traced(shard.name, database.write))
    return database


def make_keys(config: Config, metrics: Metrics) -> IdempotencyKeys | None:
    """What applies each idempotency key once, if that is configured."""
    found = deduplication(config)
    if found is None:
        return None

    def count(source: TopicPartition, records: int) -> None:
        metrics.repeated_keys.labels(source.topic, str(source.partition)).inc(records)

    return IdempotencyKeys(key_digest(found.key, found.tenant), count)


def chores_of(config: Config) -> list[Chore]:
    """What the ledgers keep for a time only."""
    chores = []
    if config.pipeline.exactly_once and config.ingest is not None and config.ingest.receipts:
        chores.append(reasons_chore())
    if config.records.dedupe_for is not None:
        chores.append(keys_chore(config.records.dedupe_for))
    return chores


async def make_applier(
    config: Config, shard: Shard, ledger: Ledger, sizers: BatchSizers
) -> Applier:
    """What the configuration says is done with records on a shard."""
    keys = make_keys(config, shard.metrics)
    if config.sink.handler is not None:
        by_key = config.sink.scope == "key"
        return HandlerApplier(
            load_handler(config.sink.handler, Path(config.source)),
            shard,
            ledger,
            runs if by_key else whole,
            apart=by_key and len(config.records.keys) == 1,
            called=lambda lease, records, took: sizers.called(lease.claim, records, took),
            keys=keys,
            details=config.errors.details,
        )
    assert config.sink.table is not None, "the configuration has a table or a handler"
    table = await shard.run(partial(read_table, name=config.sink.table))
    mistakes = mistakes_of(config.sink, table)
    if mistakes or table is None:
        key = "sink" if len(config.shards) == 1 else f"shards[{shard.name}]"
        raise UsageError("\n".join(f"{key}: {mistake}" for mistake in mistakes))
    return SinkApplier(config.sink, table, shard, ledger, keys)
