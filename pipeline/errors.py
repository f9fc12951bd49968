"""The error that ends the program with a message for a person, and errors as one line of text."""

from __future__ import annotations


class PipelineError(Exception):
    """An error that ends the program; its text is one message that a person can act on.

    Args:
        message: the text.
        cause: a text that several errors may share. Partitions that meet the same refusal at the
            same moment each raise an error, and it is printed once. None: the message itself.
    """

    def __init__(self, message: str, *, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = message if cause is None else cause


class UsageError(PipelineError):
    """A mistake in what was given, found when a command looked at the servers: exit code 2."""


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, after its class's name unless the message has that."""
    name, text = type(error).__name__, " ".join(str(error).split())
    if name in text:
        return text
    return f"{name}: {text}" if text else name
