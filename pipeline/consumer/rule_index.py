"""What goes by a rule, found by a record: lanes, and operators' holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from pipeline.consumer.channels import Matches
from pipeline.contracts.rule import Rule, RuleKind
from pipeline.records.record import Record
from pipeline.records.tenant import PLAIN, TenantOf

T = TypeVar("T")


def nobody(record: Record) -> Hashable:
    """The tenant of a record where no configuration says what a tenant is."""
    del record
    return None


def matcher(rule: Rule, tenant_of: TenantOf) -> Matches:
    """Return whether a record is the rule's, as a function."""
    value = rule.value
    if rule.kind == "key":
        return lambda record: record.ordering == value
    return lambda record: tenant_of(record) == value


def rule_of(record: Record, kind: RuleKind, tenant_of: TenantOf) -> Rule | None:
    """Return the rule of a record's key, or of its tenant; None where that can't be named."""
    value = record.ordering if kind == "key" else tenant_of(record)
    return Rule(kind, value) if isinstance(value, PLAIN) else None


class RuleIndex(Generic[T]):
    """Items by their rules. A record's tenant is read only if a rule by tenant is here.

    Args:
        rule_of: an item's rule.
        tenant_of: a record's tenant.
    """

    def __init__(self, rule_of: Callable[[T], Rule], tenant_of: TenantOf) -> None:
        self._rule_of = rule_of
        self._tenant_of = tenant_of
        self._by_key: dict[Hashable, list[T]] = {}
        self._by_tenant: dict[Hashable, list[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key or self._by_tenant)

    def fill(self, items: Iterable[T]) -> None:
        """Hold these items and no others."""
        self._by_key, self._by_tenant = {}, {}
        for item in items:
            rule = self._rule_of(item)
            group = self._by_key if rule.kind == "key" else self._by_tenant
            group.setdefault(rule.value, []).append(item)

    def of(self, record: Record) -> Sequence[T]:
        """Return the items whose rule a record matches: by key, then by tenant, each as filled."""
        found: Sequence[T] = self._by_key.get(record.ordering, ()) if self._by_key else ()
        if self._by_tenant:
            more = self._by_tenant.get(self._tenant_of(record))
            if more:
                return [*found, *more]
        return found
