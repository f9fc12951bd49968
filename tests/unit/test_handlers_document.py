"""docs/handlers.md tells what follows an error as the rules have it."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.postgres.connections.errors import RULES, Verdict

DOCUMENT = Path(__file__).parents[2] / "docs" / "handlers.md"
TOLD = {
    Verdict.REJECT: "a record's fault",
    Verdict.RETRY: "tried again",
    Verdict.IN_DOUBT: "as a lost connection",
    Verdict.SUSPECT: "may be a record's fault",
    Verdict.STOP: "stops the pipeline",
}


def test_each_sqlstate_is_in_the_row_of_its_verdict() -> None:
    _, _, table = DOCUMENT.read_text().partition("| SQLSTATE | what follows |")
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M)
    for verdict, beginning in TOLD.items():
        (states,) = [states for states, follows in rows if follows.startswith(beginning)]
        prefixes = [rule.prefix for rule in RULES if rule.verdict is verdict]
        assert re.findall("`(.*?)`", states) == sorted(prefixes)
