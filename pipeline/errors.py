"""The error that ends the program with a message for a person."""

from __future__ import annotations


class PipelineError(Exception):
    """An error that ends the program; its text is one message a person can act on.

    Args:
        message: the text.
        cause: what several errors may share. Partitions that meet one refusal at the same moment
            each raise it, and a person is told once. None: the message stands for itself.
    """

    def __init__(self, message: str, *, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = message if cause is None else cause
