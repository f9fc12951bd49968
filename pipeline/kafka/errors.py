"""Which of Kafka's errors no retry mends, and what to do about them."""

from __future__ import annotations

from kafka.consumer.fetcher import RecordTooLargeError
from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    KafkaError,
    NoOffsetForPartitionError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

from pipeline.errors import PipelineError, one_line

FATAL = (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    NoOffsetForPartitionError,
    RecordTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)


def raise_if_fatal(error: KafkaError) -> None:
    """Turn an error that no retry mends into a `PipelineError`; return if retrying may help."""
    if isinstance(error, FATAL):
        raise PipelineError(f"Kafka: {_advice(error)}") from error


def _advice(error: KafkaError) -> str:
    if isinstance(error, FencedInstanceIdError):
        return (
            "another instance has joined with the kafka.group_instance_id of this one, and has taken "
            "its place in the group. Give each instance an id of its own (an environment variable, "
            "for example), or start only one that has this id"
        )
    if isinstance(error, GroupAuthorizationFailedError):
        return (
            "no permission: grant Read on the consumer group (kafka.group_id, which is pipeline.name "
            "if it is not set) to the user of [kafka]"
        )
    if isinstance(error, TopicAuthorizationFailedError):
        (topics,) = error.args or ("of kafka.topics",)  # a name, or a set of names
        names = topics if isinstance(topics, str) else ", ".join(sorted(topics))
        return f"no permission: grant Read and Describe on topic {names} to the user of [kafka]"
    return one_line(error)
