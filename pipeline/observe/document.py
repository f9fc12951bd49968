"""Write the table of metrics: ``python -m pipeline.observe.document``.

The registry is what the code uses, so the document can't name a metric that isn't there, nor leave
one out. A test compares the two.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.observe.metrics import definitions

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"

HEAD = """\
# Metrics

<!-- Written by `python -m pipeline.observe.document` from pipeline/observe/metrics.py. -->

Prometheus text at `/metrics` on `[http] listen`. Times are in seconds. A partition's gauges go when
the partition leaves this instance, and its counters stay: take `sum by (topic, partition)` over the
instances. A histogram has the series `_bucket`, `_sum` and `_count`. Rules that alert on them, and a
board that shows them: [Runbook](runbook.md).

| name | type | labels | meaning | what to do when it moves |
| --- | --- | --- | --- | --- |
"""


def document() -> str:
    """The whole document, in the order of the registry."""
    rows = []
    for _, metric in definitions():
        labels = ", ".join(metric.labels)
        cells = (f"`{metric.name}`", metric.kind, labels, metric.meaning, metric.action)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return HEAD + "".join(rows)


def main() -> None:
    """Write the document into this checkout."""
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(DOCUMENT)


if __name__ == "__main__":
    main()
