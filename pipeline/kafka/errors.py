"""Which of Kafka's errors no retry mends."""

from __future__ import annotations

from kafka.consumer.fetcher import RecordTooLargeError
from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    KafkaError,
    NoOffsetForPartitionError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)

from pipeline.errors import PipelineError

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
        raise PipelineError(f"Kafka: {type(error).__name__}: {error}") from error
