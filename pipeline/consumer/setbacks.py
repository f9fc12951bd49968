"""What the main way could not apply, and does not give up: it waits for a lane, with what comes after it.

The record that failed is in no transaction any more, and nothing has come after it, since its key was in
flight. So it is kept back as a held record is, with all that waits of its key; the keeper opens the lane;
there it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.consumer.channels import Matches
from pipeline.consumer.kept_back import KeptBack
from pipeline.consumer.writers import Writers
from pipeline.contracts.rule import Rule
from pipeline.contracts.setback import Failure, Setback
from pipeline.records.record import Record


class Setbacks:
    """The records of one partition that wait for a lane because one of them failed. No checkpoints.

    Args:
        main: the main way.
        kept_back: where they wait.
        rule_of: whose records go the same way as a record; None: it can have no lane.
        matches: whether a record is a rule's, as a function.
        wake: called when there is something to open a lane for.
    """

    def __init__(
        self,
        main: Writers,
        kept_back: KeptBack,
        rule_of: Callable[[Record], Rule | None],
        matches: Callable[[Rule], Matches],
        wake: Callable[[], None],
    ) -> None:
        self._main = main
        self._kept_back = kept_back
        self._rule_of = rule_of
        self._matches = matches
        self._wake = wake
        self._causes: dict[Rule, Failure] = {}
        main.on_setback = self.take

    def __contains__(self, rule: Rule) -> bool:
        return rule in self._causes

    def take(self, setback: Setback) -> None:
        """Keep back what is not decided of a batch, and what waits behind it."""
        by_rule: dict[Rule, list[Record]] = {}
        nobodys = []
        for record in setback.records:
            rule = self._rule_of(record)
            if rule is None:  # it shares a key with a tenant's records, and has no tenant
                nobodys.append(record)
            else:
                by_rule.setdefault(rule, []).append(record)
        if nobodys:
            self._main.channels.put_back(nobodys)
        for failure in setback.failures:
            rule = self._rule_of(failure.record)
            assert rule is not None, "the store lets no record wait that can have no lane"
            self._causes.setdefault(rule, failure)
        for rule, records in by_rule.items():
            self._causes.setdefault(rule, setback.failures[0])
            waiting = self._main.channels.withdraw(self._matches(rule))
            self._kept_back.add(rule, [*records, *waiting])
        self._wake()

    def cause(self, rule: Rule) -> Failure | None:
        """Return, once, why a lane of a rule is opened; None: not for a record that failed."""
        return self._causes.pop(rule, None)
