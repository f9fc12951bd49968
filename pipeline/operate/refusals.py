"""Why a hold, a pause or a limit can't be kept, and what is meant by what an operator typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pipeline.config.mistakes import did_you_mean
from pipeline.config.model import Config
from pipeline.contracts.rule import Plain, Rule, RuleKind
from pipeline.contracts.wish import Hold, Pause, Scope
from pipeline.errors import UsageError
from pipeline.operate.cluster import Cluster
from pipeline.operate.console import duration
from pipeline.operate.control import ENDED, Known, shown_first
from pipeline.records.path import Path
from pipeline.records.record import TopicPartition

# What is meant


def rule_of(config: Config, key: str | None, tenant: str | None) -> Rule:
    """Return the rule that ``--key`` or ``--tenant`` means.

    Raises:
        UsageError: neither or both are given, or the configuration has no such thing.
    """
    if (key is None) == (tenant is None):
        raise UsageError("name the records: give either --key or --tenant")
    if tenant is not None:
        return Rule("tenant", tenant_of(config, tenant))
    assert key is not None, "one of them is given"
    return Rule("key", _key_of(config, key))


def tenant_of(config: Config, text: str) -> Plain:
    """Return the tenant that is meant.

    Raises:
        UsageError: the configuration does not say what a tenant is.
    """
    path = config.records.tenant or (config.ingest.tenant if config.ingest is not None else None)
    if path is None:
        raise UsageError(
            "which records are a tenant's is not configured: set [records] tenant to the path of it"
        )
    return _value(Path.parse(path), text, "tenant")


def _key_of(config: Config, text: str) -> Plain:
    keys = config.records.keys
    if len(keys) > 1:
        raise UsageError(
            f"records have {len(keys)} ordering keys ({', '.join(keys)}): one that waited by one key "
            "would hold up others by the other key, and so on. Hold a tenant instead: --tenant"
        )
    return _value(Path.parse(keys[0]), text, "key")


def _value(path: Path, text: str, kind: RuleKind) -> Plain:
    """Text where the path gives text; else a number, true or false where it reads as one."""
    if path.base == "@timestamp":
        raise UsageError(f"a {kind} by @timestamp can't be named")
    if path.is_text or path.base == "@topic":
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, str | int | float) else text


def scope_of(
    config: Config, cluster: Cluster, shard: str | None, topic: str | None, partition: str | None
) -> Scope:
    """Return what ``--shard``, ``--topic`` or ``--partition`` means.

    Raises:
        UsageError: not exactly one is given, or there is no such thing.
    """
    if sum(given is not None for given in (shard, topic, partition)) != 1:
        raise UsageError("say what: give one of --shard, --topic and --partition")
    if shard is not None:
        _demand("shard", shard, [each.name for each in config.shards])
        return Scope(shard=shard)
    if topic is not None:
        _demand("topic", topic, config.kafka.topics)
        return Scope(topic=topic)
    assert partition is not None, "one of them is given"
    name, _, number = partition.rpartition("-")
    if not name or not number.isdecimal():
        raise UsageError(f"--partition {partition}: expected TOPIC-NUMBER, such as events-3")
    _demand("topic", name, config.kafka.topics)
    numbers = [source.partition for source in cluster.partitions(name)]
    if int(number) not in numbers:
        raise UsageError(f"topic {name} has no partition {number}, but {len(numbers)}, from 0 on")
    return Scope(topic=name, partition=int(number))


def _demand(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known)
        names = ", ".join(known)
        raise UsageError(f"the configuration has no {kind} {name}{hint}: it has {names}")


# Why not


def refuse_hold(
    config: Config, cluster: Cluster, known: Known, rule: Rule, seconds: float | None
) -> list[str]:
    """Return what the operator should know of a hold that can be kept.

    Args:
        seconds: for how long; None: without an end.

    Raises:
        UsageError: it can't be kept; the message says why.
    """
    if not config.pipeline.exactly_once:
        raise UsageError(
            'delivery = "at-least-once" has no ledger, which would know what is held: nothing can be '
            "held. What can be done is to pause a whole partition: pipeline pause add"
        )
    same = [hold for hold in known.of(Hold) if hold.rule == rule and hold.state not in ENDED]
    if same:
        raise UsageError(f"{rule} is held already: {shown_first(same)}")
    return [
        note
        for topic in config.kafka.topics
        for note in _refuse_topic(topic, cluster.settings(topic), seconds)
    ]


def _refuse_topic(topic: str, settings: dict[str, str], seconds: float | None) -> Iterator[str]:
    if not settings:
        yield f"whether {topic} keeps its records for that long can't be seen: no right to DescribeConfigs"
        return
    if "compact" in settings.get("cleanup.policy", ""):
        raise UsageError(
            f"topic {topic} is compacted (cleanup.policy={settings['cleanup.policy']}): Kafka removes "
            "older records of a key there, so what is held would be lost"
        )
    kept = int(settings.get("retention.ms", "-1")) / 1000
    if kept >= 0 and seconds is not None and kept < seconds:
        raise UsageError(
            f"topic {topic} keeps records for {duration(kept)} (retention.ms), which is shorter than "
            f"{duration(seconds)}: what is held longer would be lost. Shorten --for, or raise retention.ms"
        )
    if kept >= 0 and seconds is None:
        yield (
            f"topic {topic} keeps records for {duration(kept)} (retention.ms): release or drop them "
            "before that, or Kafka removes them"
        )
    if int(settings.get("retention.bytes", "-1")) >= 0:
        yield f"topic {topic} also removes records by size (retention.bytes): watch what is held"


def refuse_pause(config: Config, cluster: Cluster, known: Known, scope: Scope) -> None:
    """Refuse a pause of what is paused already.

    Raises:
        UsageError: each partition that is meant is covered by one and the same pause.
    """
    sources = [source for topic in config.kafka.topics for source in cluster.partitions(topic)]
    meant = [source for source in sources if covers(config, scope, source)]
    wider = [
        pause
        for pause in known.of(Pause)
        if pause.what == scope or (meant and all(covers(config, pause.what, s) for s in meant))
    ]
    if wider:
        raise UsageError(f"{scope} is paused already, with {wider[0].what}: {shown_first(wider)}")


def covers(config: Config, scope: Scope, source: TopicPartition) -> bool:
    """Return whether a pause of something stops a partition."""
    try:
        return scope.covers(source, config.shard_for(source.partition).name)
    except LookupError:  # no shard covers it, which `check` tells
        return scope.shard is None and scope.covers(source, "")
