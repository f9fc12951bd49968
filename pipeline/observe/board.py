"""Write the board for Grafana: ``python -m pipeline.observe.board``.

A panel is one line of `ROWS` here and thirty of JSON there. Its description is what the registry of
metrics says of the metric that it shows, so the board explains itself. A test compares the two, and
has every expression checked by Prometheus's own tool.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from pipeline.observe.metrics import Metrics

BOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "pipeline.json"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PARTITION, SHARD = "{{topic}}-{{partition}}", "{{shard}}"
WIDTH, HEIGHT, COLUMNS = 8, 8, 24


@attrs.frozen
class Panel:
    """One chart.

    Attributes:
        title: what it shows.
        about: the attribute of `Metrics` whose meaning and advice describe it.
        unit: as Grafana names units; empty for a plain number.
        series: expression and legend of each line or group of lines.
    """

    title: str
    about: str
    unit: str
    series: tuple[tuple[str, str], ...]


def panel(title: str, about: str, unit: str, *series: tuple[str, str]) -> Panel:
    return Panel(title, about, unit, series)


def by(labels: str, expression: str, how: str = "sum") -> str:
    """Aggregate an expression over everything but ``labels``."""
    return f"{how} by ({labels}) ({expression})"


def rate(metric: str) -> str:
    return f'rate({metric}{{job=~"$job"}}[$__rate_interval])'


def now(metric: str) -> str:
    return f'{metric}{{job=~"$job"}}'


def quantiles(metric: str, labels: str = "", legend: str = "") -> tuple[tuple[str, str], ...]:
    """The median and the slowest hundredth of a histogram."""
    buckets = by(f"{labels}le", rate(f"{metric}_bucket"))
    return tuple(
        (f"histogram_quantile({quantile}, {buckets})", f"{legend}{name}")
        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
    )


P, S = "topic, partition", "shard"

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "What waits",
        (
            panel("Time lag", "time_lag_seconds", "s",
                  (by(P, now("pipeline_time_lag_seconds"), "max"), PARTITION)),
            panel("Message lag", "message_lag", "short",
                  (by(P, now("pipeline_message_lag"), "max"), PARTITION)),
            panel("From the producer to Postgres", "end_to_end_seconds", "s",
                  *quantiles("pipeline_end_to_end_seconds")),
            panel("Records applied per second", "records_applied", "reqps",
                  (by(P, rate("pipeline_records_applied_total")), PARTITION)),
            panel("Records in lanes", "lane_records", "short",
                  (by("reason", now("pipeline_lane_records")), "{{reason}}")),
            panel("Time lag of lanes", "lane_time_lag_seconds", "s",
                  (by("reason", now("pipeline_lane_time_lag_seconds"), "max"), "{{reason}}")),
            panel("Until Kafka may delete what waits in lanes", "lane_retention_seconds", "s",
                  (by(P, now("pipeline_lane_retention_seconds"), "min"), PARTITION)),
            panel("Paused by operators", "paused", "short",
                  (by("what", now("pipeline_paused")), "{{what}}")),
            panel("Seconds of standing still", "standing_seconds", "s",
                  (by(P, now("pipeline_standing_seconds"), "max"), PARTITION)),
        ),
    ),
    (
        "The incident's pattern: lag grows while these fall",
        (
            panel("CPU", "cpu_seconds", "percentunit",
                  (by("instance", rate("pipeline_cpu_seconds_total")), "{{instance}}")),
            panel("Memory", "memory_bytes", "bytes",
                  (by("instance", now("pipeline_memory_bytes")), "{{instance}}")),
            panel("Versions that run", "build_info", "short",
                  (by("version", now("pipeline_build_info"), "count"), "{{version}}")),
            panel("Busy connections, and the limit", "busy_connections", "short",
                  (by(S, now("pipeline_busy_connections")), f"{SHARD} busy"),
                  (by(S, now("pipeline_shard_limit")), f"{SHARD} limit")),
            panel("Records held, and the keys that have them", "key_channels", "short",
                  (by(P, now("pipeline_buffered_records")), f"{PARTITION} records"),
                  (by(P, now("pipeline_key_channels")), f"{PARTITION} keys")),
            panel("Records per second of the heaviest tenants", "tenant_records", "reqps",
                  (by("tenant", rate("pipeline_tenant_records_total")), "{{tenant}}")),
            panel("How long heavy keys wait", "key_waiting_seconds", "s",
                  (by("key", now("pipeline_key_waiting_seconds"), "max"), "{{key}}")),
        ),
    ),
    (
        "Postgres",
        (
            panel("Shards: 0 works, 1 is probed, 2 is away", "shard_state", "short",
                  (by(S, now("pipeline_shard_state"), "max"), SHARD)),
            panel("A transaction takes", "apply_seconds", "s",
                  *quantiles("pipeline_apply_seconds", "shard, ", f"{SHARD} ")),
            panel("Transactions that run", "in_flight_batches", "short",
                  (by(S, now("pipeline_in_flight_batches")), SHARD)),
            panel("Retries per second", "retries", "reqps",
                  (by("shard, sqlstate", rate("pipeline_retries_total")),
                   "{{shard}} {{sqlstate}}")),
            panel("Records in a transaction", "batch_records", "short",
                  *quantiles("pipeline_batch_records", "shard, ", f"{SHARD} ")),
            panel("Rows written per second", "rows_written", "wps",
                  (by(S, rate("pipeline_rows_written_total")), SHARD)),
        ),
    ),
    (
        "What should not happen",
        (
            panel("Dead letters per second", "dead_letters", "short",
                  (by(P, rate("pipeline_dead_letters_total")), PARTITION)),
            panel("Dead letters per second, by kind", "dead_letter_kinds", "short",
                  (by("kind", rate("pipeline_dead_letter_kinds_total")), "{{kind}}")),
            panel("Dead letters that their topic does not take", "dead_letters_waiting", "short",
                  (by("instance", now("pipeline_dead_letters_waiting")), "{{instance}}")),
            panel("Records per second that were lost, applied again, read twice", "records_lost", "short",
                  (by(P, rate("pipeline_records_lost_total")), f"{PARTITION} lost"),
                  (by(P, rate("pipeline_reapplied_total")), f"{PARTITION} again"),
                  (by(P, rate("pipeline_duplicates_skipped_total")), f"{PARTITION} twice")),
            panel("Batches fenced, logs changed, per second", "fenced", "short",
                  (by(P, rate("pipeline_fenced_total")), f"{PARTITION} fenced"),
                  (by(P, rate("pipeline_log_changes_total")), f"{PARTITION} log")),
            panel("Rebalances per second", "rebalances", "short",
                  (by("instance", rate("pipeline_rebalances_total")), "{{instance}}")),
            panel("A hand-over's drain takes", "drain_seconds", "s",
                  *quantiles("pipeline_drain_seconds")),
        ),
    ),
    (
        "Ingest",
        (
            panel("Requests per second", "ingest_requests", "reqps",
                  (by("status", rate("pipeline_ingest_requests_total")), "{{status}}")),
            panel("Until Kafka has acknowledged", "ingest_request_seconds", "s",
                  *quantiles("pipeline_ingest_request_seconds")),
            panel("Records per second", "ingest_records", "reqps",
                  (by("status", rate("pipeline_ingest_records_total")), "{{status}}")),
            panel("Records that Kafka has not acknowledged", "ingest_pending", "short",
                  (by("instance", now("pipeline_ingest_pending")), "{{instance}}")),
            panel("From accepted to visible", "accepted_to_visible_seconds", "s",
                  *quantiles("pipeline_accepted_to_visible_seconds")),
            panel("Repeated idempotency keys per second", "repeated_keys", "short",
                  (by(P, rate("pipeline_repeated_keys_total")), PARTITION)),
        ),
    ),
)  # fmt: skip


def described(each: Panel) -> str:
    """The meaning of what a panel shows, and what to do when it moves."""
    definition = vars(Metrics)[each.about]
    return f"{definition.meaning} {definition.action}"


def board() -> dict[str, Any]:
    """The whole board, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "collapsed": False})
        for number, each in enumerate(row):
            line, column = divmod(number, COLUMNS // WIDTH)
            panels.append(_chart(each, column * WIDTH, top + 1 + line * HEIGHT))
        top += 1 + HEIGHT * -(-len(row) // (COLUMNS // WIDTH))
    for number, shown in enumerate(panels, 1):
        shown["id"] = number
    return {
        "title": "Pipeline: Kafka to Postgres",
        "uid": "kafka-to-postgres",
        "tags": ["pipeline"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), _job()]},
        "annotations": {"list": [_alerts()]},
        "panels": panels,
    }


def _chart(each: Panel, x: int, y: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "expr": e, "legendFormat": legend}
        for n, (e, legend) in enumerate(each.series)
    ]
    return {
        "type": "timeseries",
        "title": each.title,
        "description": described(each),
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": each.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _job() -> dict[str, Any]:
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": DATASOURCE,
        "query": "label_values(pipeline_cpu_seconds_total, job)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _alerts() -> dict[str, Any]:
    """Every alert of rules.yml that fires, as a mark on all charts."""
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Pipeline.*", alertstate="firing", job=~"$job"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{topic}} {{partition}} {{shard}} {{instance}}",
    }


def main() -> None:
    """Write the board into this checkout."""
    BOARD.write_text(json.dumps(board(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(BOARD)


if __name__ == "__main__":
    main()
