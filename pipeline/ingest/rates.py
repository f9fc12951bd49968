"""How many records a second a tenant may send.

A tenant's rate is kept as one number, the time at which it would be back at rest if it sent nothing
more (GCRA, as in ATM's traffic management and in many API gateways). A burst of one second's worth is
free. Who is at rest needs no number, so memory holds the busy ones only, and `MOST_TENANTS` of them.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_TENANTS = 100_000
"""Beyond that the one that was seen longest ago is forgotten: it may send a burst once more."""


CLOSED_SECONDS = 60.0
"""In how many seconds a tenant of which nothing is taken may ask again."""


class TenantRates:
    """The limit of each tenant.

    Args:
        clock: seconds that only grow.
        rate_of: a tenant's rate in records per second; None: no limit; 0: none may be sent. Asked for
            each record, so that a limit can be changed while this runs.
    """

    def __init__(
        self, clock: Callable[[], float], rate_of: Callable[[bytes], float | None]
    ) -> None:
        self._clock = clock
        self._rate_of = rate_of
        self._at_rest: dict[bytes, float] = {}

    def take(self, tenant: bytes) -> float:
        """Count a record; return 0 if it may be sent, or in how many seconds one may. No checkpoint."""
        rate = self._rate_of(tenant)
        if rate is None:
            return 0.0
        if not rate:
            return CLOSED_SECONDS
        now, step = self._clock(), 1 / rate
        at_rest = max(self._at_rest.pop(tenant, now), now)
        wait = at_rest + step - now - max(1.0, step)
        if wait > 1e-9:
            self._at_rest[tenant] = at_rest
            return wait
        self._at_rest[tenant] = at_rest + step
        if len(self._at_rest) > MOST_TENANTS:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Forget those at rest; if that is not half of them, those that were seen longest ago."""
        self._at_rest = {
            tenant: at_rest for tenant, at_rest in self._at_rest.items() if at_rest > now
        }
        while len(self._at_rest) > MOST_TENANTS // 2:
            del self._at_rest[next(iter(self._at_rest))]
