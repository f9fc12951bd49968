"""`pipeline` commands, called within the test's process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.cli import main
from tests.support.pipelines import Job


class Commands:
    """Runs commands with a job's configuration, and keeps what they print."""

    def __init__(self, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
        self._job = job
        self._capsys = capsys
        self.notes = ""
        """What the last command printed on standard error."""

    def run(self, *words: str, code: int = 0) -> str:
        """Run one; return what it printed on standard output. Its exit code must be ``code``."""
        self._capsys.readouterr()
        ended = main([*words, "--config", str(self._job.config)])
        printed = self._capsys.readouterr()
        self.notes = printed.err
        assert ended == code, printed.err
        return printed.out

    def json(self, *words: str) -> Any:
        """Run one with ``--json``; return what it printed, read."""
        return json.loads(self.run(*words, "--json"))

    def refused(self, *words: str) -> str:
        """Run one that must find a mistake in what it was given; return the message."""
        assert self.run(*words, code=2) == ""
        return self.notes
