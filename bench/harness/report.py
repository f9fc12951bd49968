"""Runs and medians as lines of text."""

from __future__ import annotations

from collections.abc import Mapping

from bench.harness.drain import Drained

NAME = 40
HEADER = (
    f"{'':<{NAME}} {'records/s':>10} {'CPU µs':>8} {'memory MB':>10} {'Postgres µs':>12} "
    f"{'Kafka µs':>9} {'records per transaction':>24}"
)


def line(run: Drained) -> str:
    """Format a run as a line below `HEADER`."""
    wrong = f"  {run.wrong} ROWS WRONG" if run.wrong else ""
    return (
        f"{run.program:<{NAME}} {run.rate:>10,.0f} {run.cpu:>8.2f} {run.memory:>10.0f} "
        f"{run.postgres_cpu:>12.2f} {run.kafka_cpu:>9.2f} {run.batch:>24,.0f}{wrong}"
    )


def medians(rates: Mapping[str, float], cpu: Mapping[str, float], ratios: Mapping[str, str]) -> str:
    """Format the median rates and CPU times, each with what ``ratios`` says about it."""
    lines = ["medians"]
    for name, rate in rates.items():
        said = f"   {ratios[name]}" if name in ratios else ""
        lines.append(f"{name:<{NAME}} {rate:>10,.0f} {cpu[name]:>8.2f}{said}")
    return "\n".join(lines)
