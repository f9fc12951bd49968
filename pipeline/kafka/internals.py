"""What this project uses of kafka-python and aiokafka beyond what they document, in one list.

Neither library promises to keep these names, or what is behind them. So both are pinned to the
versions that this code was written against and is tested with; importing `pipeline.kafka` with any
other is refused. To admit a new version: go through `INTERNALS` beside its sources, run the tests of
this room and ``tests/integration``, then widen `KNOWN_VERSIONS` and ``pyproject.toml`` together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from pipeline.errors import PipelineError

KNOWN_VERSIONS: Mapping[str, tuple[str, str]] = {
    "kafka-python": ("3.0.12", "3.1"),
    "aiokafka": ("0.14", "0.15"),
}
"""Distribution → the first version that is known, and the first after it that is not."""

INTERNALS: Mapping[str, Mapping[str, str]] = {
    "kafka.consumer.group:KafkaConsumer": {
        "_cluster": "metadata of topics: their ids, and the leaders of their partitions",
        "_coordinator": "joins of the group; committed offsets, read with a timeout",
        "_fetcher": "what was fetched, and the decoder that it is read by",
        "_manager": "waiting on the I/O loop with a timeout",
        "_net": "the I/O loop",
        "_refresh_committed_offsets": "positions that nobody asked for; put out of use",
        "_subscription": "whether positions are reset by a policy; put out of use",
        "_poll_once": "one round of `poll`, between two looks at whether the group is to be joined",
        "config": "options with their defaults",
    },
    "kafka.producer.kafka:KafkaProducer": {
        "_metadata": "metadata of topics, which are to be asked for without being created",
        "_sender": "its thread: it is woken, mended, and ended where `close` gives up",
        "_transaction_manager": "whether the producer has met an error that it does not survive",
    },
    "kafka.producer.sender:Sender": {
        "_accumulator": "the queue that batches are put into whole",
        "_can_split": "whether a batch that is too large is divided by kafka-python; replaced",
        "_dispatch_error": "what follows a batch that failed; replaced",
        "_send_producer_data": "sends what is in the queues; called where they hold something",
        "_maybe_remove_from_inflight_batches": "a batch that was refused is under way no more",
        "_transaction_manager": "the sequence numbers of a batch that was refused are free",
    },
    "kafka.producer.record_accumulator:RecordAccumulator": {
        "_batches": "the queue of each partition",
        "_closed": "whether it takes no more",
        "_incomplete": "all batches that are not acknowledged",
        "_tp_lock": "the lock of a partition's queue",
        "deallocate": "a batch that was refused is complete",
        "muted": "partitions with a batch under way",
    },
    "kafka.producer.transaction_manager:TransactionManager": {
        "has_producer_id": "whether the producer can send at all",
        "has_fatal_error": "whether the producer has met an error that it does not survive",
        "producer_id_and_epoch": "whether a batch was sent under the present ones",
        "set_sequence_number": "taking back the numbers of a batch that was refused",
    },
    "kafka.producer.producer_batch:ProducerBatch": {
        "attempts": "whether a batch was sent before",
        "base_sequence": "its first sequence number",
        "complete_exceptionally": "ending a batch that was refused",
        "created": "since when its records wait",
        "drained": "whether it was ever sent",
        "produce_future": "its answer",
        "records": "what is in it: see `batch_builder`",
    },
    "kafka.consumer.fetcher:Fetcher": {
        "PartitionRecords": "the class of the records of one fetched partition; replaced",
        "_create_fetch_requests": "fetch requests, which are completed by topics' ids",
        "_handle_fetch_response": "answers, completed by topics' names; where the logs begin",
        "_session_handlers": "sessions with brokers, begun anew where a topic is another one",
        "_fetch_futures": "fetches under way: a poll during a join waits for one of them",
        "_net": "the I/O loop; wrapped by `TracebackFreeLoop`",
        "_next_partition_records": "the partition in line, which polls read from",
        "_paused_partition_records": "what was fetched of paused partitions",
        "_send_fetches_async": "sending fetches from the I/O loop, during a join",
        "_subscriptions": "whether the partition in line is paused",
        "config": "how long a broker may hold a fetch: set before each poll",
        "fetched_records": "taking what was fetched, during a join",
    },
    "kafka.consumer.fetcher:Fetcher.PartitionRecords": {
        "_consume_aborted_transactions_up_to": "keeping the list of aborted transactions",
        "_contains_abort_marker": "whether a control batch ends an aborted transaction",
        "_is_batch_aborted": "whether a batch belongs to an aborted transaction",
        "_maybe_skip_record": "skipping records below the position",
        "_unpack_records": "the innermost loop, bytes → records; overridden",
        "aborted_producer_ids": "producers whose transaction at this place was aborted",
        "bytes_read": "counted for kafka-python's metrics",
        "check_crcs": "the option `check_crcs`",
        "drain": "ending: the partition may be fetched again",
        "fetch_offset": "the position that the data was fetched for",
        "isolation_level": "the option `isolation_level`",
        "leader_epoch": "travels with the position",
        "next_fetch_offset": "the position after what was handed out",
        "topic_partition": "whose records these are",
    },
    "kafka.consumer.subscription_state:SubscriptionState": {
        "_default_offset_reset_strategy": "resetting positions; put out of use",
        "assignment": "where a partition is read on, without a wait: for lanes",
        "is_paused": "whether the partition in line is paused",
    },
    "kafka.coordinator.consumer:ConsumerCoordinator": {
        "_send_heartbeat_request": "heartbeats, whose errors are told nowhere else",
        "ensure_active_group": "joining within a poll; put out of use",
        "ensure_active_group_async": "joining the group",
        "fetch_committed_offsets": "committed offsets and their metadata, of many partitions at once",
        "need_rejoin": "whether there is a reason to join",
        "rejoining": "whether a join was left unfinished",
        "request_rejoin": "a reason to join that lasts until an assignment was taken over",
    },
    "kafka.cluster:ClusterMetadata": {
        "_bootstrap_brokers": "the servers to fall back on; set anew after the start with one of them",
        "_generate_bootstrap_brokers": "the same, made from the configuration",
        "config": "whether asking for a topic makes it; the servers",
        "leader_for_partition": "whether a partition is led",
        "partitions_for_topic": "whether there is a topic; how many partitions one that is written to has",
        "request_update": "looking for a leader or a topic's id again",
        "topic_id": "a topic's id",
        "unauthorized_topics": "topics that may not be described: told nowhere else",
    },
    "kafka.net.manager:KafkaConnectionManager": {
        "wait_for": "waiting for a future with a timeout, on the I/O loop",
    },
    "kafka.net.transport:KafkaSSLTransport": {
        "_build_ssl_context": "TLS as the clients do it, for one connection of our own",
    },
    "kafka.protocol.parser:KafkaProtocol": {
        "receive_bytes": "answers of a server that is asked by itself",
        "send_bytes": "questions to it",
        "send_request": "questions to it",
    },
    "kafka.admin:KafkaAdminClient": {
        "_find_coordinator_ids": "who coordinates a group, to ask for rights on it",
        "_manager": "sending one request",
    },
    "kafka.net.selector:NetworkSelector": {
        "call_soon_threadsafe": "completing a rebalance listener's future",
        "call_soon_with_future": "starting a join",
        "run": "running on the I/O loop, and waiting for it on another thread",
    },
    "kafka.future:Future": {
        "__await__": "a rebalance listener waits for Trio",
        "add_both": "waking a poll",
        "exception": "whether and how a join failed",
        "is_done": "whether a join has ended",
        "success": "completing",
        "value": "whether a join has ended in time",
    },
    "kafka.util:Timer": {
        "expired": "whether the time of a poll is over",
        "timeout_ms": "what is left of it",
    },
    "kafka.record.memory_records:MemoryRecords": {
        "next_batch": "the record batches of what was fetched",
    },
    "kafka.protocol.consumer:FetchRequest": {
        "_max_version": "the version that a fetch is sent in",
    },
    "kafka.consumer.fetcher:FetchSessionHandler": {
        "next_metadata": "beginning a session anew",
    },
    "kafka.record.default_records:DefaultRecordBatch": {
        "_maybe_uncompress": "the records of a batch that the compiled decoder refuses",
        "_pos": "where they begin",
        "_buffer": "the bytes of a record batch, for the compiled decoder",
        "base_offset": "naming a batch that is corrupt",
        "has_producer_id": "whether the batch is of a transaction or of an idempotent producer",
        "is_control_batch": "whether it holds a marker instead of records",
        "last_offset": "the offset of its last record",
        "leader_epoch": "travels with the position",
        "magic": "the version of its format",
        "next_offset": "the position after it",
        "producer_id": "whose transaction it belongs to",
        "records_count": "how many records it holds",
        "size_in_bytes": "its size, for budgets and metrics",
    },
    "kafka.record.util": {
        "crc32c_c": "whether checksums are computed by compiled code",
    },
    "kafka.partitioner.default": {
        "murmur2": "the hash of the default partitioner",
    },
    "aiokafka.record._crecords.default_records:DefaultRecordBatchBuilder": {
        "append": "a record into a batch",
        "build": "the bytes of a batch",
        "set_producer_state": "producer id, epoch and sequence number",
        "size": "how large a batch is so far",
    },
    "aiokafka.record._crecords.default_records:DefaultRecordBatch": {
        "__iter__": "decoding",
        "base_offset": "whether the position is amid the batch",
        "validate_crc": "verifying the checksum",
    },
}
"""``module`` or ``module:class`` → name → what it is used for."""


def require_known_versions() -> None:
    """Refuse versions of the libraries that this code was not written against.

    Raises:
        PipelineError: a library is missing or of another version; says what to type.
    """
    wrong = [
        f"{name} {installed or 'is not installed'}"
        for name, known in KNOWN_VERSIONS.items()
        if not _is_known(installed := _installed(name), known)
    ]
    if wrong:
        known = ", ".join(requirements())
        wanted = " ".join(f"'{requirement}'" for requirement in requirements())
        raise PipelineError(
            f"can't work with {', '.join(wrong)}: names are used that these libraries may change in "
            f"any version, so only {known} will do. Type: pip install {wanted}"
        )


def requirements() -> Iterator[str]:
    """The known versions in the words of ``pip``."""
    for name, (first, end) in KNOWN_VERSIONS.items():
        yield f"{name}>={first},<{end}"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_known(installed: str | None, known: tuple[str, str]) -> bool:
    first, end = known
    return installed is not None and _numbers(first) <= _numbers(installed) < _numbers(end)


def _numbers(text: str) -> tuple[int, ...]:
    """``3.0.12rc1`` → (3, 0, 12): a candidate counts as the version that it is for."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()
