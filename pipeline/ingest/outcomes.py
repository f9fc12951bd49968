"""What became of records, across the shards: each partition's is asked of the shard that it writes to."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from pipeline.config.model import Config, ShardConfig
from pipeline.errors import UsageError
from pipeline.ingest.poller import Poller, Question
from pipeline.postgres.connections.bridge import Connections, Session, cross
from pipeline.postgres.connections.errors import sqlstate_of
from pipeline.postgres.connections.explanations import explain
from pipeline.postgres.ledger.outcomes import Outcome, Place, State, ask, forbidden

log = logging.getLogger(__name__)

QUERY_SECONDS = 5.0
"""How long a query may take, and a connection to be made."""

WATCH_SECONDS = 0.1
"""Who has waited for so long is watched: if the client goes, nothing more is asked for it."""

NO_LEDGER = ("3F000", "42P01")
"""SQLSTATE of a schema or a table that is not there."""


Gone = Callable[[], Awaitable[None]]


class Outcomes:
    """The pollers of all shards.

    Args:
        poller_for: the poller of the shard that a partition writes to; it raises `LookupError` if no
            shard does.
    """

    def __init__(self, poller_for: Callable[[int], Poller]) -> None:
        self._poller_for = poller_for

    async def wait(
        self, places: Iterable[Place], seconds: float, gone: Gone | None = None
    ) -> dict[Place, Outcome]:
        """Return what became of records, as soon as it is known of all, or after a time.

        A checkpoint. Cancelled, nobody asks for them any more.

        Args:
            seconds: how long to wait at most; 0: what is known now.
            gone: returns when nobody waits any more, which ends this too; it is cancelled otherwise.
                It is called if the answer takes longer than `WATCH_SECONDS`.
        """
        by_poller: dict[Poller, set[Place]] = {}
        found: dict[Place, Outcome] = {}
        for place in places:
            try:
                by_poller.setdefault(self._poller_for(place.partition), set()).add(place)
            except LookupError:
                why = f"no shard writes partition {place.partition}"
                found[place] = Outcome(State.UNKNOWN, why)
        asked = [
            (poller, poller.put(share, once=not seconds)) for poller, share in by_poller.items()
        ]
        questions = [question for _, question in asked]
        try:
            await _settled(questions, trio.current_time() + (seconds or QUERY_SECONDS), gone)
        finally:
            for poller, question in asked:
                poller.take_back(question)
        for question in questions:
            found |= question.found
        return found


async def _settled(questions: Sequence[Question], until: float, gone: Gone | None) -> None:
    """Wait until nothing is left of these questions, or nobody waits any more. A checkpoint.

    Whether somebody still waits is looked at by a task of its own, which costs as much as all the rest;
    most questions are settled before there is any need of it.
    """
    soon = until if gone is None else min(until, trio.current_time() + WATCH_SECONDS)
    with trio.move_on_at(soon) as unwatched:
        await _all_done(questions)
    if gone is None or soon == until or not unwatched.cancelled_caught:
        return
    with trio.move_on_at(until):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, gone, nursery.cancel_scope)
            await _all_done(questions)
            nursery.cancel_scope.cancel()


async def _all_done(questions: Sequence[Question]) -> None:
    for question in questions:
        await question.done.wait()


async def _cancel_when(gone: Gone, scope: trio.CancelScope) -> None:
    await gone()
    scope.cancel()


class ShardOutcomes:
    """The connections and the pollers of a configuration's shards.

    Usage: ``await check()``, then start `run` and use `outcomes`.
    """

    def __init__(self, config: Config, topic: str) -> None:
        streams = [f"{config.kafka.group_id}/{topic}"]
        self._connections = {
            shard.name: Connections.of(shard, _session(config, shard)) for shard in config.shards
        }
        self._pollers = {
            name: Poller(name, partial(_ask, connections, streams), _told)
            for name, connections in self._connections.items()
        }
        self.outcomes = Outcomes(lambda number: self._pollers[config.shard_for(number).name])

    async def check(self) -> None:
        """Find out whether the ledgers may be read. A shard that is away may be right. A checkpoint.

        Raises:
            UsageError: one may not; the message has the privileges to grant.
        """
        mistakes: dict[str, str] = {}

        async def look(name: str, connections: Connections) -> None:
            try:
                tables = await cross(connections.lease, forbidden)
            except Exception as error:  # told; it is asked again for the first receipt
                log.warning("receipts: shard %s can't be asked now: %s", name, explain(error))
                return
            if tables:
                mistakes[name] = (
                    f"ingest.receipts: the ledger of shard {name} may not be read: "
                    f"grant usage on schema pipeline, and select on {', '.join(tables)}"
                )

        async with trio.open_nursery() as nursery:
            for name, connections in self._connections.items():
                nursery.start_soon(look, name, connections)
        if mistakes:
            raise UsageError("\n".join(mistakes[name] for name in sorted(mistakes)))

    async def run(self) -> None:
        """Ask for whoever waits, until cancelled; then close the connections."""
        try:
            async with trio.open_nursery() as nursery:
                for poller in self._pollers.values():
                    nursery.start_soon(poller.run)
        finally:
            # Shielded: each close is bounded by `bridge.CLOSE_SECONDS`.
            with trio.CancelScope(shield=True):
                for connections in self._connections.values():
                    await cross(connections.close)

    def end(self, why: str) -> None:
        """Let nobody wait any more. Not a checkpoint."""
        for poller in self._pollers.values():
            poller.end(why)


async def _ask(
    connections: Connections, streams: Sequence[str], places: Sequence[Place]
) -> Mapping[Place, Outcome]:
    try:
        return await cross(connections.lease, partial(ask, streams=streams, places=places))
    except OSError:
        connections.terminate_idle()
        raise


def _session(config: Config, shard: ShardConfig) -> Session:
    return attrs.evolve(
        Session.of(config, shard),
        application_name=f"{config.pipeline.name}-ingest",
        statement_timeout=QUERY_SECONDS,
        lock_timeout=QUERY_SECONDS,
        connect_timeout=QUERY_SECONDS,
    )


def _told(error: Exception) -> str:
    """An error for clients: Postgres's own words are not for them."""
    state = sqlstate_of(error)
    if state in NO_LEDGER:
        return "it has no ledger with receipts yet, which pipeline run makes"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"SQLSTATE {state}" if state else "it does not answer"
