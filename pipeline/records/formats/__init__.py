"""Formats of values: from bytes to documents."""
