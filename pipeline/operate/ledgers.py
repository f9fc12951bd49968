"""Read and reset the ledgers of all shards, partition by partition, while no instance runs."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import UUID

import attrs

from pipeline.config.model import Config, ShardConfig
from pipeline.contracts.store import Claim
from pipeline.errors import PipelineError, UsageError
from pipeline.postgres.connections.address import server_of
from pipeline.postgres.connections.bridge import (
    Connection,
    Connections,
    Session,
    cross,
    open_bridge,
)
from pipeline.postgres.connections.errors import refuses_entry
from pipeline.postgres.connections.explanations import entry_problem
from pipeline.postgres.ledger import reading
from pipeline.postgres.ledger.lane_moves import LaneMove, move_lanes
from pipeline.postgres.ledger.reading import (
    LaneEntry,
    LedgerEntry,
    Ranges,
    read_entry,
    reset_entry,
)
from pipeline.postgres.ledger.schema import migrate
from pipeline.records.record import TopicPartition

T = TypeVar("T")


@attrs.frozen
class Reset:
    """What the ledger is to hold of a partition, and the epochs that it had when it was read.

    Attributes:
        to: the offset at which an instance will begin.
        lanes: what becomes of the partition's lanes.
    """

    claim: Claim
    epochs: tuple[tuple[int, int], ...]
    applied: Ranges
    to: int
    lanes: LaneMove


async def read(config: Config, claims: Iterable[Claim]) -> dict[TopicPartition, LedgerEntry]:
    """Return what the ledgers hold of each claimed partition; each is read in the shard it writes to.

    A checkpoint. Cancelled, it closes its connections.

    Raises:
        PipelineError: a shard does not answer.
    """
    found: dict[TopicPartition, LedgerEntry] = {}
    async with open_bridge():
        for shard, share in _by_shard(config, claims, lambda claim: claim).items():
            found.update(await _on(config, shard, partial(_read, claims=share)))
    return found


async def read_lanes(
    config: Config, streams: Sequence[str]
) -> dict[tuple[str, UUID, int], tuple[LaneEntry, ...]]:
    """Return the lanes of some streams: by stream, topic id and partition, oldest first.

    A checkpoint. Cancelled, it closes its connections.

    Raises:
        PipelineError: a shard does not answer.
    """
    found: dict[tuple[str, UUID, int], tuple[LaneEntry, ...]] = {}
    async with open_bridge():
        for shard in config.shards:
            held = await _on(config, shard, partial(reading.read_lanes, streams=streams))
            for key, entries in held.items():
                with suppress(LookupError):  # no shard covers it any more
                    if config.shard_for(key[2]) == shard:
                        found[key] = entries
    return found


async def reset(
    config: Config, resets: Iterable[Reset], on_progress: Callable[[str], object]
) -> None:
    """Carry out resets, one transaction per shard.

    In the transaction the epochs are compared and raised first, which locks the rows: whatever a
    former owner still sends comes too late.

    A checkpoint. Cancelled, the transaction of the current shard is in doubt, those of the shards
    before it are committed, and the shards after it are as they were.

    Args:
        on_progress: called with each shard's name after its transaction.

    Raises:
        PipelineError: a shard does not answer, or a partition was taken over since it was read.
            Nothing was changed then in that shard, nor in those after it.
    """
    async with open_bridge():
        for shard, share in _by_shard(config, resets, lambda reset: reset.claim).items():
            await _on(config, shard, migrate)
            await _on(config, shard, partial(_reset, resets=share))
            on_progress(shard.name)


def _by_shard(
    config: Config, items: Iterable[T], claim_of: Callable[[T], Claim]
) -> Mapping[ShardConfig, Sequence[T]]:
    shares: dict[ShardConfig, list[T]] = {}
    for item in items:
        shares.setdefault(config.shard_for(claim_of(item).source.partition), []).append(item)
    return shares


async def _on(config: Config, shard: ShardConfig, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run work on a new connection to a shard."""
    connections = Connections.of(shard, Session.of(config, shard))
    try:
        return await cross(connections.lease, work)
    except PipelineError:
        raise
    except Exception as error:  # whatever it is, an operator has to act
        problem = entry_problem(shard.name, server_of(shard.dsn), error)
        raise (UsageError if refuses_entry(error) else PipelineError)(problem) from error
    finally:
        await cross(connections.close)  # noqa: ASYNC102 (cancelled: the command ends)


async def _read(
    connection: Connection, claims: Sequence[Claim]
) -> dict[TopicPartition, LedgerEntry]:
    return {claim.source: await read_entry(connection, claim) for claim in claims}


async def _reset(connection: Connection, resets: Sequence[Reset]) -> None:
    owner = f"pipeline rewind on {socket.gethostname()}"
    async with connection.transaction():
        for reset in resets:
            await reset_entry(connection, reset.claim, reset.epochs, reset.applied, owner)
            await move_lanes(connection, reset.claim, reset.lanes, reset.to, owner)
