"""The last hour of all instances in one: rates and lags added up, ages at their highest, means weighted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.dashboard.model import HISTORY_LENGTH, MAX_CHANGES, SAMPLE_SECONDS
from pipeline.dashboard.sampled import weighted_mean

Told = Mapping[str, Any]

Sample = Sequence[Any]
"""As `pipeline.dashboard.model.Sample` is in JSON; an instance of an older version leaves the last out."""


LEAST = 4
"""How many values every version's samples have."""

GAP_STEPS = 3
"""So many steps without a sample an instance may have: it was busy, and counts as it did before."""


def merged_history(told: Sequence[Told]) -> dict[str, Any]:
    """Put histories together, by steps of `SAMPLE_SECONDS`.

    Returns:
        ``samples``: at, rate, message lag, time lag, the rate of what endpoints accepted, and how long
        that took until it was visible, in the mean; ``changes``: who gained and lost which partitions.
        The oldest first. None is not known: one that did not know its lag makes the whole unknown at
        that step.
    """
    runs: dict[int, list[Sample]] = defaultdict(list)
    accepted: dict[int, list[Sample]] = defaultdict(list)
    for each in told:
        steps = accepted if each.get("role") == "ingest" else runs
        for step, sample in _by_step(_samples(each)).items():
            steps[step].append(sample)
    newest = max((*runs, *accepted), default=0)
    return {
        "samples": [
            (step * SAMPLE_SECONDS, *_together(runs.get(step, ())),
             _sum(sample[1] for sample in accepted.get(step, ())), _visible(runs.get(step, ())))
            for step in sorted({*runs, *accepted}) if step > newest - HISTORY_LENGTH
        ],
        "changes": _changes(told),
    }  # fmt: skip


def _by_step(samples: Iterable[Sample]) -> dict[int, Sample]:
    """One sample a step, the newest; where there is none for a few steps, the one before."""
    found: dict[int, Sample] = {}
    before: int | None = None
    for sample in samples:
        step = int(sample[0] // SAMPLE_SECONDS)
        if before is not None and step - before <= GAP_STEPS + 1:
            for missing in range(before + 1, step):
                found[missing] = found[before]
        found[step] = sample
        before = step
    return found


def _samples(told: Told) -> list[Sample]:
    given = told.get("samples")
    return [each for each in given if _is_sample(each)] if isinstance(given, list) else []


def _is_sample(given: Any) -> bool:
    return (
        isinstance(given, list | tuple) and len(given) >= LEAST and type(given[0]) in (int, float)
    )


def _together(samples: Iterable[Sample]) -> tuple[Any, Any, Any]:
    """Rate, message lag, time lag of one step."""
    samples = list(samples)
    lags = [sample[2] for sample in samples]
    ages = [sample[3] for sample in samples]
    return (
        _sum(sample[1] for sample in samples),
        sum(lags) if lags and None not in lags else None,
        max(ages) if ages and None not in ages else None,
    )


def _visible(samples: Iterable[Sample]) -> float | None:
    """How long records took from accepted to visible, in the mean, in one step."""
    return weighted_mean([(each[4], each[5]) for each in samples if len(each) > LEAST + 1])[1]


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _changes(told: Iterable[Told]) -> list[dict[str, Any]]:
    found = [
        {**change, "owner": each.get("owner")}
        for each in told
        for change in each.get("changes") or ()
        if isinstance(change, dict) and type(change.get("at")) in (int, float)
    ]
    return sorted(found, key=lambda change: change["at"])[-MAX_CHANGES:]
