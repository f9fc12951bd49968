"""How [ingest] goes with [kafka] and [records]: the topic, the message key, the required fields.

`pipeline ingest` places a record by its tenant, or by its key if there is none: that value is the message
key. So all records of a tenant are in one partition, and so are those of a key, if a tenant has the
key to itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from pipeline.config.mistakes import Mistake, describe, did_you_mean
from pipeline.config.model import Config, IngestConfig, RecordsConfig
from pipeline.records.path import Path


@frozen
class Placement:
    """Where records go.

    Attributes:
        topic: the topic that they are written to.
        tenant: the path of the value that is the message key, and whose rate is limited.
        required: the paths that each record must have a plain value at; the tenant's is the first.
        idempotency: the path of the record's idempotency key, if it is in the record.
    """

    topic: str
    tenant: Path
    required: tuple[Path, ...]
    idempotency: Path | None


def placement(config: Config) -> Placement:
    """Return where the records of a configuration with [ingest], without mistakes, go."""
    assert config.ingest is not None
    placed_by = _placed_by(config.ingest, config.records)
    assert placed_by is not None
    paths = [placed_by, *_keys(config.ingest, config.records)]
    given = config.ingest.idempotency_key
    return Placement(
        config.ingest.topic or config.kafka.topics[0],
        Path.parse(placed_by),
        tuple(map(Path.parse, dict.fromkeys(paths))),
        None if given is None else Path.parse(given),
    )


def _in_value(path: str | None) -> bool:
    return path is not None and Path.parse(path).in_value


def _keys(ingest: IngestConfig, records: RecordsConfig) -> list[str]:
    """The paths in the value that order a record."""
    found = [key for key in records.keys if _in_value(key)]
    return [ingest.key, *found] if ingest.key is not None else found


def _placed_by(ingest: IngestConfig, records: RecordsConfig) -> str | None:
    tenant = ingest.tenant or (records.tenant if _in_value(records.tenant) else None)
    keys = _keys(ingest, records)
    return tenant or (keys[0] if keys else None)


def check_ingest(config: Config) -> Iterator[Mistake]:
    """The message key is one value, and what [records] orders by is in each record."""
    ingest, records = config.ingest, config.records
    if ingest is None:
        return
    odd = [key for key in ("key", "tenant", "idempotency_key")
           if getattr(ingest, key) is not None and not _in_value(getattr(ingest, key))]  # fmt: skip
    for key in odd:
        why = f'{describe(getattr(ingest, key))} is no path into the record: expected one such as "a.b"'
        yield Mistake(f"ingest.{key}", why)
    if not odd:
        yield from _check_key(ingest, records)
        yield from _check_tenant(ingest, records)


def _check_key(ingest: IngestConfig, records: RecordsConfig) -> Iterator[Mistake]:
    by_message_key = records.keys == ("@key",)
    absent = [key for key in records.keys if not _in_value(key) and not by_message_key]
    if absent:
        why = f"[ingest] writes no record that has {describe(absent[0])}: expected paths into the value"
        yield Mistake("records.key", why)
    elif _placed_by(ingest, records) is None:
        why = 'missing: expected the path in a record of what its message key is to be, such as "user.id"'
        yield Mistake("ingest.key", why)
    elif ingest.key is not None and not by_message_key and ingest.key not in records.keys:
        shown = ", ".join(map(describe, records.keys))
        why = f"{describe(ingest.key)} is not what orders the records: records.key is {shown}"
        yield Mistake("ingest.key", why)
    elif by_message_key and ingest.key and _placed_by(ingest, records) != ingest.key:
        why = f'the message key is the tenant, so "@key" orders by tenant: expected {describe(ingest.key)}'
        yield Mistake("records.key", why)


def _check_tenant(ingest: IngestConfig, records: RecordsConfig) -> Iterator[Mistake]:
    if ingest.tenant and _in_value(records.tenant) and ingest.tenant != records.tenant:
        why = f"{describe(ingest.tenant)} and records.tenant ({describe(records.tenant)}) differ"
        yield Mistake("ingest.tenant", why)
    elif len(records.keys) > 1 and not (ingest.tenant or _in_value(records.tenant)):
        why = "missing: with several keys, records that share one need a tenant to be in one partition"
        yield Mistake("ingest.tenant", why)


def check_ingest_topic(config: Config) -> Iterator[Mistake]:
    """The topic is one of those that are read."""
    if config.ingest is None:
        return
    topic, known = config.ingest.topic, config.kafka.topics
    if topic is None and len(known) > 1:
        yield Mistake("ingest.topic", f"missing: expected one of {', '.join(map(describe, known))}")
    elif topic is not None and topic not in known:
        hint = did_you_mean(topic, known)
        yield Mistake("ingest.topic", f"{describe(topic)} is none of kafka.topics{hint}")


def check_ingest_tls(config: Config) -> Iterator[Mistake]:
    """A certificate has its key."""
    if config.ingest is None:
        return
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(config.ingest, one) and not getattr(config.ingest, other):
            yield Mistake(f"ingest.{other}", f"missing: ingest.{one} needs it")


def check_ingest_receipts(config: Config) -> Iterator[Mistake]:
    """What became of records is asked of the ledger."""
    if config.ingest is not None and config.ingest.receipts and not config.pipeline.exactly_once:
        why = 'needs the ledger, which pipeline.delivery = "at-least-once" does without: leave one out'
        yield Mistake("ingest.receipts", why)
