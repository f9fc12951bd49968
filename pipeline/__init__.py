"""Kafka to Postgres, in order by key and exactly once, at the pace that Postgres can bear."""

__version__ = "0.1.0"
