"""What happens while the load goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from bench.sync_async.world import HOT, TENANTS, World

BEFORE, AFTER = 10.0, 20.0
"""Seconds of ordinary load before and after what happens."""

HOT_OF_FIVE = 4
"""Of five requests so many are the hot tenant's."""


@attrs.frozen
class Scenario:
    """An experiment.

    Attributes:
        name: for the command line.
        title: for people.
        factor: what the rate is multiplied with meanwhile.
        hot: whether most requests are of one tenant meanwhile.
        fault: what befalls Postgres meanwhile; blocks for so many seconds.
    """

    name: str
    title: str
    factor: float = 1.0
    hot: bool = False
    fault: Callable[[World, float], None] | None = None

    def phases(self, rate: float, seconds: float) -> Sequence[tuple[float, float]]:
        """Return the load: (rate, seconds) before, meanwhile, after."""
        return [(rate, BEFORE), (rate * self.factor, seconds), (rate, AFTER)]

    def app(self, number: int, rate: float, seconds: float) -> str:
        """Return whose a request is."""
        first = round(rate * BEFORE)
        meanwhile = first <= number < first + round(rate * self.factor * seconds)
        if self.hot and meanwhile and number % 5 < HOT_OF_FIVE:
            return HOT
        return f"app-{number % TENANTS}"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("steady", "Steady"),
        Scenario("spike", "A spike of five times the rate", factor=5.0),
        Scenario("hot-tenant", "One hot tenant", hot=True),
        Scenario("stopped", "Postgres is stopped", fault=World.stop_postgres),
        Scenario("locked", "A table is locked", fault=World.lock),
        Scenario("slow-disk", "A slow disk", fault=World.slow_down),
    )
}
