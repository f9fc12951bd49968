"""Kafka's errors in words: why no broker can be used, which right is missing, what no retry mends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kafka.consumer.fetcher import RecordTooLargeError
from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    KafkaError,
    NoOffsetForPartitionError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

from pipeline.config.model import KafkaConfig
from pipeline.errors import PipelineError, UsageError, one_line

FATAL = (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    NoOffsetForPartitionError,
    RecordTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)


class NoServerError(KafkaError):
    """None of the bootstrap servers can be used.

    Args:
        reasons: server → why it can't be used, in words.
        mistaken: whether some server answered and refused what is configured (TLS, password). Then
            a person must mend something; otherwise the servers may only be away.
    """

    def __init__(self, reasons: Mapping[str, str], *, mistaken: bool) -> None:
        self.reasons = reasons
        self.mistaken = mistaken
        if len(set(reasons.values())) == 1:
            text = next(iter(reasons.values()))
        else:
            text = "; ".join(f"{server}: {reason}" for server, reason in reasons.items())
        super().__init__(text if mistaken else f"no broker answers: {text}")

    def __str__(self) -> str:
        return str(self.args[0])


def raise_if_fatal(error: KafkaError) -> None:
    """Turn an error that no retry mends into a `PipelineError`; return if retrying may help."""
    if isinstance(error, FATAL):
        raise PipelineError(f"Kafka: {in_words(error)}") from error


def unusable(kafka: KafkaConfig, error: Exception) -> PipelineError:
    """Return the error that every command ends with where Kafka can't be used.

    It is a `UsageError` if the configuration or the rights must be mended, not only waited for.
    """
    message = f"Kafka at {', '.join(kafka.bootstrap_servers)} can't be used: {in_words(error)}"
    mistaken = isinstance(error, AuthorizationError) or getattr(error, "mistaken", False)
    return UsageError(message) if mistaken else PipelineError(message)


def in_words(error: BaseException) -> str:
    """Return why Kafka refused, on one line; of a missing right, what to grant."""
    if isinstance(error, NoServerError):
        return str(error)
    if isinstance(error, FencedInstanceIdError):
        return (
            "another instance has joined with the kafka.group_instance_id of this one, and has taken "
            "its place in the group. Give each instance an id of its own (an environment variable, "
            "for example), or start only one that has this id"
        )
    if isinstance(error, InconsistentGroupProtocolError):
        return (
            "other members of the group divide its partitions by another assignor: a program that is "
            "not this one uses the same group. Stop it, or set kafka.group_id"
        )
    if isinstance(error, TopicAuthorizationFailedError):
        return no_permission("Read", "topic", *_names(error))
    if isinstance(error, GroupAuthorizationFailedError):
        return no_permission("Read", "group", *_names(error))
    return one_line(error)


def no_permission(operation: str, kind: str, *names: str) -> str:
    """Say that a right is missing, in the words of Kafka's access control lists."""
    on = f"{kind} {', '.join(names)}" if names else f"the {kind}s that are configured"
    return f"no permission: grant {operation} on {on} to the user of [kafka]"


def _names(error: BaseException) -> list[str]:
    """The topics or the group that an error of kafka-python carries: a set of names, or a name."""
    names: list[str] = []
    for given in error.args:
        if isinstance(given, str):
            names.append(given)
        elif isinstance(given, Iterable):
            names.extend(str(name) for name in given)
    return sorted(name for name in names if name and " " not in name)
