"""The figures of `bench.compare` as a table in Markdown."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

US = "pipeline"
HEAD = (
    "| program | records/s | CPU, µs per record | memory, MB | Postgres, µs | order within "
    "| exactly once | pipeline ÷ it |\n| --- | ---: | ---: | ---: | ---: | --- | --- | ---: |"
)


def table(document: Document) -> str:
    """Format medians, with the range of the rates; the best variant of each family is in bold."""
    runs: dict[str, list[Any]] = defaultdict(list)
    for run in document["runs"]:
        runs[run["program"]].append(run)
    peers = [peer for peer in document["peers"] if peer["name"] in runs]
    rates = {name: _median(measured, "rate") for name, measured in runs.items()}
    best: dict[str, str] = {}
    for peer in peers:
        name, family = peer["name"], peer["family"]
        if family not in best or rates[name] > rates[best[family]]:
            best[family] = name
    peers.sort(key=lambda peer: -rates[peer["name"]])
    rows = [_row(peer, runs[peer["name"]], best, rates) for peer in peers]
    return "\n".join([_title(document), "", HEAD, *rows, *_missing(document)]) + "\n"


def _title(document: Document) -> str:
    load, machine, versions = document["options"], document["machine"], document["versions"]
    return (
        f"{load['records']:,} records, {load['keys']:,} keys, {document['partitions']} partitions, "
        f"{load['rounds']} rounds; {document['date']}\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, load at the "
        f"end {machine['load']:.1f}; " + ", ".join(f"{k} {v}" for k, v in versions.items())
    )


def _row(
    peer: Mapping[str, Any],
    runs: Sequence[Any],
    best: Mapping[str, str],
    rates: Mapping[str, float],
) -> str:
    name = peer["name"]
    measured = [run["rate"] for run in runs]
    shown = f"**{name}**" if best[peer["family"]] == name else name
    wrong = sum(run["wrong"] for run in runs)
    if wrong:
        shown += f" ({wrong} ROWS WRONG)"
    if peer["share"] < 1:
        shown += f" ({peer['share']:.0%} of the records)"
    ratio = f"{rates[US] / rates[name]:.2f}" if US in rates else "–"
    return (
        f"| {shown} | {rates[name]:,.0f} ({min(measured):,.0f}–{max(measured):,.0f}) "
        f"| {_median(runs, 'cpu'):.1f} | {_median(runs, 'memory'):.0f} "
        f"| {_median(runs, 'postgres_cpu'):.1f} | {peer['order']} "
        f"| {'yes' if peer['exactly_once'] else 'no'} | {ratio} |"
    )


def _missing(document: Document) -> list[str]:
    """What did not run here, or not every time, with the first line of each reason."""
    reasons = {**document["skipped"], **document["failures"]}
    lines = [f"- {name}: {str(reason).splitlines()[0]}" for name, reason in reasons.items()]
    return ["", "Did not run, or not every time:", "", *lines] if lines else []


def _median(runs: Sequence[Any], figure: str) -> float:
    return float(statistics.median(run[figure] for run in runs))
