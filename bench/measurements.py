"""Absolute values with their intervals, n and standard errors, from a run's raw files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..optimize.variant import Manifest
from .evidence_of_run import was_built, worker_facts
from .metrics import METRICS, Conditions
from .results import Measurement
from .samples import CONTROL, Replicate
from .speed import Statistic, load_note, statistics
from .stats import quantile_interval

_CONFIDENCE = 0.95


def speed_measurements(
    replicates: Sequence[Replicate],
    kind: Literal["classifier", "decoder"],
    latency_limit: Mapping[str, float],
) -> Iterator[Measurement]:
    """Every speed statistic of every variant, over the timed calls of all replicates."""
    pooled = Replicate.pooled(replicates)
    found = list(statistics({shape for _, shape in pooled.timed}, kind, latency_limit))
    for variant in dict.fromkeys(variant for variant, _ in pooled.timed):
        if variant != CONTROL:
            yield from filter(None, (_timed(variant, each, pooled, replicates) for each in found))


def _timed(
    variant: str, statistic: Statistic, pooled: Replicate, replicates: Sequence[Replicate]
) -> Measurement | None:
    """One statistic: percentiles with an order-statistic interval over calls, others with their spread over replicates."""
    metric, conditions = statistic.metric, statistic.conditions
    n = statistic.calls(pooled, variant)
    if statistic.shape and not n:
        return None
    value = statistic.of(pooled, variant)
    if value is None:
        if metric.percentile is not None:
            note = f"n too small: {n} of {statistic.calls_needed}"
        elif metric.family == "generation":
            note = "needs two tokens"
        else:
            return None
        return Measurement(variant, metric.name, metric.unit, conditions, None, n=n, note=note)
    single = [statistic.of(replicate, variant) for replicate in replicates]
    per_replicate = np.array([each for each in single if each is not None], dtype=np.float64)
    error = float(per_replicate.std(ddof=1) / np.sqrt(len(per_replicate))) if len(per_replicate) > 1 else None
    low, high = None, None
    if metric.percentile is not None:
        calls = pooled.timed[variant, statistic.shape].sum(axis=1)
        low, high = quantile_interval(calls, metric.percentile / 100, _CONFIDENCE)
    note = load_note(variant, statistic, pooled)
    return Measurement(
        variant, metric.name, metric.unit, conditions, value, low, high, n or len(per_replicate), error, note
    )


def cost_measurements(
    manifests: Mapping[str, Manifest], events: Sequence[Mapping[str, Any]], replicates: Sequence[Replicate]
) -> Iterator[Measurement]:
    """Sizes from the manifests; load time, first call and peak memory over the worker processes."""
    for variant, manifest in manifests.items():
        for name, value in (("artifact_bytes", manifest.bytes), ("parameters", manifest.parameters)):
            yield Measurement(variant, name, METRICS[name].unit, {}, float(value), n=1)
        if was_built(manifest):
            yield Measurement(variant, "build_time", METRICS["build_time"].unit, {}, manifest.build_seconds, n=1)
    for name, fact in (("load_time", "load_ms"), ("peak_memory", "peak_bytes")):
        for variant, values in worker_facts(events, fact).items():
            if variant != CONTROL:
                yield _median(variant, name, {}, list(values.values()))
    for variant, shape in dict.fromkeys(key for replicate in replicates for key in replicate.first):
        if variant != CONTROL:
            first = [each.first[variant, shape] for each in replicates if (variant, shape) in each.first]
            yield _median(variant, "first_call", json.loads(shape), first)


def _median(variant: str, name: str, conditions: Conditions, values: Sequence[float]) -> Measurement:
    return Measurement(
        variant,
        name,
        METRICS[name].unit,
        conditions,
        float(np.median(values)),
        float(min(values)),
        float(max(values)),
        len(values),
    )
