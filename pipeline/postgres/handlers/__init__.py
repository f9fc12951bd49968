"""Handlers: users' functions in a transaction that carries the ledger."""
