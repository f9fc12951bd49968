"""Batches → Postgres: connections, the sink, the ledger and the verdicts on errors."""
