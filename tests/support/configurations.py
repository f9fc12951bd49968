"""Configurations as text: a small one that loads, with more lines where a test wants them."""

from __future__ import annotations

DSN = "postgresql://app:s3cr3t@127.0.0.1:5432/app"
PIPELINE = '[pipeline]\nname = "p"\n'
KAFKA = '[kafka]\nbootstrap_servers = "k:9092"\ntopics = "t"\n'
SINK = '[sink]\ntable = "t"\nprimary_key = "id"\n'
COLUMNS = '[sink.columns]\nid = "@key"\n'
SHARD = f'[[shards]]\nname = "db0"\ndsn = "{DSN}"\n'


def document(
    pipeline: str = "",
    kafka: str = "",
    sink: str = "",
    columns: str = "",
    shard: str = "",
    more: str = "",
) -> str:
    """A document that loads, with more lines at the end of its tables."""
    parts = (PIPELINE, pipeline, KAFKA, kafka, SINK, sink, COLUMNS, columns, SHARD, shard, more)
    return "\n".join(parts)


def sink(lines: str) -> str:
    """A document whose ``[sink]`` has these lines and no other."""
    return "\n".join((PIPELINE, KAFKA, f"[sink]\n{lines}\n", SHARD))


def shards(*lines: str) -> str:
    """A document with a shard for each of ``lines``, which all have a DSN."""
    head = "\n".join((PIPELINE, KAFKA, SINK, COLUMNS))
    return head + "".join(f'\n[[shards]]\ndsn = "{DSN}"\n{line}\n' for line in lines)
