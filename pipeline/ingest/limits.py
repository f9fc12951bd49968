"""The rate of each tenant: what operators wish just now, or else what the configuration says."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pipeline.contracts.log_events import event
from pipeline.contracts.rule import Plain, shown
from pipeline.contracts.wish import RateLimit
from pipeline.contracts.wishes import Wishes

log = logging.getLogger(__name__)


class TenantLimits:
    """Obeys `RateLimit` wishes: a tenant's own limit goes before the rate that all have.

    Args:
        wishes: what operators wish.
        rate: records per second of a tenant without a limit of its own; None: any number.
    """

    def __init__(self, wishes: Wishes, rate: float | None) -> None:
        self.rate = rate
        self._wishes = wishes
        self._limits: Mapping[bytes, RateLimit] = {}

    def rate_of(self, tenant: bytes) -> float | None:
        """Return a tenant's rate in records per second, by its message key; None: any number."""
        limit = self._limits.get(tenant)
        return self.rate if limit is None else limit.rate

    async def run(self) -> None:
        """Follow the wishes until cancelled."""
        while True:
            seen = self._wishes.version
            self.obey()
            await self._wishes.changed(seen)

    def obey(self) -> None:
        """Let what is wished now be in force; what changes is logged. Not a checkpoint."""
        before, now = (
            self._limits,
            {message_key(each.tenant): each for each in self._wishes.limits()},
        )
        self._limits = now
        for key, limit in now.items():
            if key not in before or before[key] != limit:
                tenant, story = shown(limit.tenant), limit.story()
                facts = event("limited", tenant=tenant, wish=limit.id, reason=story)
                log.info("tenant %s may send %g/s, %s", tenant, limit.rate, story, extra=facts)
        for key, limit in before.items():
            if key not in now:
                tenant = shown(limit.tenant)
                facts = event("unlimited", tenant=tenant, wish=limit.id)
                log.info("tenant %s has no limit of its own any more", tenant, extra=facts)


def message_key(tenant: Plain) -> bytes:
    """Return the message key of a tenant's records, as `validation.plain_value` makes it."""
    if type(tenant) is float and tenant.is_integer():
        tenant = int(tenant)
    return str(tenant).encode("utf-8", "surrogateescape")
