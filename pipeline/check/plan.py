"""The plan: what the pipeline will do with a configuration, for a person, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from pipeline.check import Findings
from pipeline.check.databases import ShardFacts, room
from pipeline.check.starts import PartitionStart
from pipeline.check.tenants import TenantFacts
from pipeline.config.kinds import show_partitions
from pipeline.config.model import Config
from pipeline.operate.console import COLUMNS, counted, table
from pipeline.postgres.ledger.schema import VERSION
from pipeline.postgres.sink.merges import MERGES

WIDTH = COLUMNS
INDENT = "  "
OFFSETS_SHOWN = 24
"""Of more partitions than so many, only the least and the greatest offset are shown."""

NEW = "the group has no offset there, so by auto_offset_reset"
"""Why a partition of a new group begins where it does, in `starting_offset`'s words."""


def plan(config: Config, findings: Findings) -> str:
    """Return the whole plan. The findings must hold no mistakes, so that all facts are known."""
    sections = (
        ("Kafka", _kafka(config)),
        ("Partitions", _partitions(config, findings)),
        ("Starts", _starts(config, findings)),
        *([("Tenants", _tenants(config, findings.tenants))] if findings.tenants else []),
        ("Sink", _sink(config, findings.shards[0])),
        ("Order", _order(config)),
        ("Connections", _connections(findings)),
        ("Sessions", _sessions(findings)),
        ("Delivery", _delivery(config, findings)),
        ("Dead letters", _dead_letters(config, findings)),
    )
    lines = [f"{config.pipeline.name}: the plan"]
    for title, content in sections:
        lines += ["", title, *content]
    return "\n".join(lines)


def paragraph(text: str, indent: str = INDENT) -> list[str]:
    """Wrap text into lines that fit."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    return [INDENT + line for line in table(rows, columns=WIDTH - len(INDENT))]


def _kafka(config: Config) -> Iterator[str]:
    protocol = config.kafka.options.get("security_protocol", "PLAINTEXT")
    yield from paragraph(
        f"{', '.join(config.kafka.bootstrap_servers)} ({protocol}), group {config.kafka.group_id}"
    )


def _partitions(config: Config, findings: Findings) -> list[str]:
    rows = [("topic", "partitions", "shard", "database", "PostgreSQL")]
    for topic in config.kafka.topics:
        count = findings.kafka.partitions(topic) or 0
        for shard in findings.shards:
            own = [n for n in range(count) if config.shard_for(n) is shard.config]
            if own:
                where = f"{shard.server}/{shard.database}"
                rows.append(
                    (topic, show_partitions(own), shard.config.name, where, _version(shard))
                )
    return _table(rows)


def _starts(config: Config, findings: Findings) -> Iterator[str]:
    """Partitions by the reason for where they begin, each with its offset while they are few."""
    groups: dict[tuple[str, str], list[PartitionStart]] = {}
    for start in findings.starts:
        groups.setdefault((start.source.topic, start.why), []).append(start)
    for (topic, why), starts in groups.items():
        policy = config.kafka.options.get("auto_offset_reset", "earliest")
        reason = why.replace("by auto_offset_reset", f"by auto_offset_reset ({policy})")
        numbers = show_partitions([start.source.partition for start in starts])
        offsets = [start.offset or 0 for start in starts]
        if len(set(offsets)) == 1:
            at = str(offsets[0])
        elif len(offsets) <= OFFSETS_SHOWN:
            at = ", ".join(map(str, offsets))
        else:
            at = f"{min(offsets)} to {max(offsets)}"
        yield from paragraph(f"{topic} {numbers} at offset {at}: {reason}")
    waiting = sum(start.waiting for start in findings.starts)
    yield from paragraph(f"{waiting:,} records wait from there to the ends of the logs")
    known = any(start.why != NEW for start in findings.starts)
    if findings.starts and not known and _adds(config) and waiting:
        yield from paragraph(
            f"group {config.kafka.group_id} is new here, so all of them are applied; columns with "
            "merge add count them in, whatever another group has applied"
        )


def _version(shard: ShardFacts) -> str:
    return f"{shard.version // 10_000}.{shard.version % 10_000}"


def _tenants(config: Config, facts: TenantFacts) -> Iterator[str]:
    yield from paragraph(
        f"by {config.records.tenant}; the producer must place a tenant's records in one partition, "
        "the consumer does not move them"
    )
    known, alone = len(facts.places), len(facts.places) - len(facts.scattered())
    if not known:
        yield from paragraph("no record shows yet whether it does")
        return
    default = "where Kafka's default partitioner puts its tenant"
    elsewhere = (
        f"{facts.elsewhere} of the records are not {default}"
        if facts.elsewhere
        else f"each record is {default}"
    )
    yield from paragraph(
        f"in the {facts.records} newest records, {alone} of {known} tenants are in one partition; "
        f"{elsewhere}"
    )


def _sink(config: Config, shard: ShardFacts) -> Iterator[str]:
    sink = config.sink
    if sink.handler is not None:
        called = "one key's records" if sink.scope == "key" else "whole batches"
        yield from paragraph(f"handler {sink.handler}, called with {called}")
        return
    assert shard.table is not None, "a table that does not exist is a mistake"
    key = f", primary key ({', '.join(sink.primary_key)})" if sink.primary_key else ""
    deletes = "; a record without a value deletes" if sink.tombstone == "delete" else ""
    yield from paragraph(f"{sink.mode} into {sink.table}{key}{deletes}")
    rows = [("column", "type", "from", "merge")]
    for column in sink.columns:
        merge = "key" if column.name in sink.primary_key else column.merge
        found = shard.table.columns[column.name]
        rows.append(
            (column.name, found.type, column.source, "-" if sink.mode == "insert" else merge)
        )
    yield from _table(rows)


def _order(config: Config) -> Iterator[str]:
    keys = config.records.keys
    if len(keys) == 1:
        yield from paragraph(
            f"by {keys[0]}: records of one key in order, different keys at the same time"
        )
    else:
        yield from paragraph(f"by {' and '.join(keys)}: records that share any key in order")


def _connections(findings: Findings) -> list[str]:
    rooms = room(findings.shards)
    rows = [("shard", "per instance", "server allows", "in use", "enough for")]
    for shard in findings.shards:
        rows.append(
            (
                shard.config.name,
                f"up to {shard.config.connections}",
                str(shard.connections),
                str(shard.in_use),
                counted(rooms[shard.server], "instance")
                if shard.server in rooms
                else "the pooler decides",
            )
        )
    return _table(rows)


def _sessions(findings: Findings) -> Iterator[str]:
    rows = [("shard", "reached", "search_path", "synchronous_commit")]
    for shard in findings.shards:
        way = "by a pooler" if shard.pooled else "directly"
        several = f", {shard.reached}" if shard.reached != shard.server else ""
        rows.append(
            (
                shard.config.name,
                f"{way}{several}",
                shard.search_path,
                shard.config.synchronous_commit,
            )
        )
    yield from _table(rows)
    if any(shard.pooled for shard in findings.shards):
        yield from paragraph(
            "a pooler may give each transaction another session: each begins with its settings, and "
            "no statement is kept prepared (three round trips more per batch)"
        )


def _delivery(config: Config, findings: Findings) -> Iterator[str]:
    if config.pipeline.delivery == "at-least-once":
        yield from paragraph(
            "at-least-once: after a crash some records may be applied again"
            + (" (columns with merge add then count twice)" if _adds(config) else "")
        )
        return
    yield from paragraph("exactly-once, with a ledger in the schema pipeline of each shard:")
    for shard in findings.shards:
        version = shard.ledger.version if shard.ledger else None
        state = "exists" if version == VERSION else "will be created by the first run"
        if version is not None and version < VERSION:
            state = f"will be upgraded from version {version}"
        yield from paragraph(f"{shard.config.name}: {state}", INDENT * 2)


def _adds(config: Config) -> bool:
    return any(MERGES[column.merge].counts_again for column in config.sink.columns)


def _dead_letters(config: Config, findings: Findings) -> Iterator[str]:
    topic = config.errors.dead_letter_topic
    if topic is None:
        yield from paragraph(
            "none: the first record that can't be applied stops the pipeline "
            "([errors] dead_letter_topic sets them aside)"
        )
        return
    yield from paragraph(
        f"to {topic} ({counted(findings.kafka.partitions(topic) or 0, 'partition')}); more than "
        f"{config.errors.max_dead_letters_per_minute} within a minute stop the pipeline"
    )
    if findings.kafka.dead_letters_unread:
        yield from paragraph(f"this user can't read them: {findings.kafka.dead_letters_unread}")
        yield from paragraph("`pipeline dlq` needs that, or another user")
