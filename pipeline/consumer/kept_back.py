"""Records that the main way has decoded, and that wait for a lane that is not there yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain

from pipeline.consumer.channels import Matches
from pipeline.consumer.writers import Writers
from pipeline.contracts.rule import Rule
from pipeline.records.record import Record, offset_of


class KeptBack:
    """What no batch may take any more, and is not done either, by the rule of the lane to come.

    While there is any the main way decodes nothing: so this is bounded, and the lane comes first.

    Args:
        main: the main way.
    """

    def __init__(self, main: Writers) -> None:
        self._main = main
        self._by_rule: dict[Rule, list[Record]] = {}
        self._moving: list[Record] = []
        self._still = ExitStack()

    def __len__(self) -> int:
        return sum(map(len, self._by_rule.values())) + len(self._moving)

    @property
    def rules(self) -> Sequence[Rule]:
        """Whose records are kept back, in the order in which that began."""
        return tuple(self._by_rule)

    def have(self, matches: Matches) -> bool:
        """Whether a record that matches is here."""
        return any(map(matches, chain(self._moving, *self._by_rule.values())))

    def add(self, rule: Rule, records: Sequence[Record]) -> None:
        """Keep records back."""
        if not self._by_rule:
            self._still.enter_context(self._main.decoding_nothing())
        self._by_rule.setdefault(rule, []).extend(records)

    def let_go(self, rule: Rule) -> None:
        """Give a rule's records back to the main way: no lane is to have them."""
        with self._main.decoding_nothing():
            self._main.channels.put(sorted(self._by_rule.pop(rule), key=offset_of))
            self._settle()

    @contextmanager
    def moving(self, rule: Rule, matches: Matches) -> Iterator[Sequence[Record]]:
        """Withdraw all that waits of a rule, in offset order; when the block ends, a lane has it."""
        with self._main.decoding_nothing():
            waiting = self._main.channels.withdraw(matches)
            kept = self._by_rule.pop(rule, [])
            self._moving = sorted([*waiting, *kept], key=offset_of)
            yield self._moving
            self._moving = []
            self._settle()

    def _settle(self) -> None:
        if not self._by_rule:
            self._still.close()
