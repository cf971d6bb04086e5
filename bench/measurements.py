"""Absolute values with their intervals, n and standard errors, from a run's raw files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..optimize.variant import Manifest
from .evidence_of_run import timed_metrics, worker_facts
from .metrics import METRICS, Calls, Conditions, Metric
from .predictions import ClassPredictions, WindowScores
from .results import Measurement
from .samples import CONTROL, Replicate
from .stats import least_n, proportion_interval, quantile_interval

_CONFIDENCE = 0.95


def speed_measurements(
    replicates: Sequence[Replicate], kind: Literal["classifier", "decoder"]
) -> Iterator[Measurement]:
    """Every speed metric of every variant and shape, over the timed calls of all replicates."""
    keys = dict.fromkeys(key for replicate in replicates for key in replicate.timed)
    for variant, shape in keys:
        if variant == CONTROL:
            continue
        parts = [replicate.timed[variant, shape] for replicate in replicates if (variant, shape) in replicate.timed]
        calls = np.concatenate(parts)
        conditions: Conditions = json.loads(shape)
        for metric in timed_metrics(kind):
            yield _timed(variant, metric, conditions, calls, parts)


def _timed(variant: str, metric: Metric, conditions: Conditions, calls: Calls, parts: Sequence[Calls]) -> Measurement:
    """One metric: percentiles with an order-statistic interval over calls, others with their spread over replicates."""
    needed = least_n(metric.percentile / 100) if metric.percentile not in (None, 50) else 1
    value = metric.of_calls(calls, conditions) if metric.of_calls else None
    if value is None:
        return Measurement(variant, metric.name, metric.unit, conditions, None, n=len(calls), note="needs two tokens")
    if len(calls) < needed:
        note = f"n too small: {len(calls)} of {needed}"
        return Measurement(variant, metric.name, metric.unit, conditions, None, n=len(calls), note=note)
    single = [metric.of_calls(part, conditions) for part in parts] if metric.of_calls else []
    per_replicate = np.array([each for each in single if each is not None], dtype=np.float64)
    error = float(per_replicate.std(ddof=1) / np.sqrt(len(per_replicate))) if len(per_replicate) > 1 else None
    low, high = None, None
    if metric.percentile is not None:
        low, high = quantile_interval(calls.sum(axis=1), metric.percentile / 100, _CONFIDENCE)
    return Measurement(variant, metric.name, metric.unit, conditions, value, low, high, len(calls), error)


def quality_measurements(
    classes: Mapping[str, ClassPredictions], windows: Mapping[str, WindowScores], baseline: str
) -> Iterator[Measurement]:
    """Accuracy and agreement with Wilson's interval, perplexity with the standard error over windows."""
    for variant, answers in classes.items():
        reference = classes.get(baseline)
        if answers.labelled:
            yield _proportion(variant, "accuracy", answers.correct)
        if variant != baseline and reference is not None:
            yield _proportion(variant, "agreement", answers.predicted == reference.predicted)
    for variant, scores in windows.items():
        mean = float(scores.nll.sum() / scores.tokens.sum())
        residual = scores.nll - mean * scores.tokens
        error = float(np.sqrt((residual**2).sum()) / scores.tokens.sum())
        value = float(np.exp(mean))
        yield Measurement(
            variant,
            "perplexity",
            METRICS["perplexity"].unit,
            {},
            value,
            float(np.exp(mean - 1.96 * error)),
            float(np.exp(mean + 1.96 * error)),
            len(scores.nll),
            value * error,
        )


def _proportion(variant: str, name: str, hits: Any) -> Measurement:
    count, n = int(hits.sum()), len(hits)
    share = count / n
    low, high = proportion_interval(count, n, _CONFIDENCE)
    return Measurement(
        variant, name, METRICS[name].unit, {}, share, low, high, n, float(np.sqrt(share * (1 - share) / n))
    )


def cost_measurements(
    manifests: Mapping[str, Manifest], events: Sequence[Mapping[str, Any]], replicates: Sequence[Replicate]
) -> Iterator[Measurement]:
    """Sizes from the manifests; load time, first call and peak memory over the worker processes."""
    for variant, manifest in manifests.items():
        for name, value in (("artifact_bytes", manifest.bytes), ("parameters", manifest.parameters)):
            yield Measurement(variant, name, METRICS[name].unit, {}, float(value), n=1)
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
