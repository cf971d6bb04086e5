"""What a run's samples, predictions and files say of each candidate against the baseline, as evidence for the judge."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..optimize.variant import Manifest
from .evidence import Agreement, Evidence, Exact, PairedAccuracy, Perplexity, ReplicateRatios
from .metrics import METRICS, Conditions, Metric
from .predictions import ClassPredictions, WindowScores
from .samples import CONTROL, Replicate
from .stats import least_n


def speed_evidence(
    replicates: Sequence[Replicate], baseline: str, kind: Literal["classifier", "decoder"]
) -> Iterator[Evidence]:
    """One piece of evidence a candidate, shape and speed metric, from the replicates in which both were measured."""
    pairs = {key for replicate in replicates for key in replicate.timed}
    for variant, shape in sorted(pairs):
        if variant in (baseline, CONTROL):
            continue
        conditions: Conditions = json.loads(shape)
        for metric in timed_metrics(kind):
            values = [
                tuple(value_in(replicate, name, shape, conditions, metric) for name in (variant, baseline, CONTROL))
                for replicate in replicates
            ]
            both = [each for each in values if each[0] is not None and each[1] is not None]
            if not both:
                continue
            with_control = all(each[2] is not None for each in both)
            yield ReplicateRatios(
                variant,
                metric.name,
                conditions,
                candidate=tuple(float(each[0]) for each in both if each[0] is not None),
                baseline=tuple(float(each[1]) for each in both if each[1] is not None),
                control=tuple(float(each[2]) for each in both if each[2] is not None) if with_control else None,
            )


def timed_metrics(kind: Literal["classifier", "decoder"]) -> list[Metric]:
    """The metrics that timed calls of this kind of model give."""
    family = "generation" if kind == "decoder" else "speed"
    return [metric for metric in METRICS.values() if metric.family == family and metric.of_calls is not None]


def value_in(replicate: Replicate, variant: str, shape: str, conditions: Conditions, metric: Metric) -> float | None:
    """A metric of one replicate; None where it was not measured or its percentile has too few samples."""
    calls = replicate.timed.get((variant, shape))
    if calls is None or metric.of_calls is None:
        return None
    if metric.percentile is not None and metric.percentile != 50 and len(calls) < least_n(metric.percentile / 100):  # noqa: PLR2004 - the median needs no rule
        return None
    return metric.of_calls(calls, conditions)


def quality_evidence(
    classes: Mapping[str, ClassPredictions], windows: Mapping[str, WindowScores], baseline: str
) -> Iterator[Evidence]:
    """Paired evidence on the same examples: accuracy and agreement of classifiers, perplexity of generators."""
    for variant, answers in classes.items():
        reference = classes.get(baseline)
        if variant == baseline or reference is None:
            continue
        yield Agreement(variant, "agreement", {}, answers.predicted == reference.predicted)
        if answers.labelled:
            yield PairedAccuracy(variant, "accuracy", {}, reference.correct, answers.correct)
    for variant, scores in windows.items():
        reference_scores = windows.get(baseline)
        if variant != baseline and reference_scores is not None:
            yield Perplexity(variant, "perplexity", {}, reference_scores.nll, scores.nll, scores.tokens)


def cost_evidence(
    manifests: Mapping[str, Manifest], events: Sequence[Mapping[str, Any]], baseline: str
) -> Iterator[Evidence]:
    """Sizes, which are exact, and peak memory, a value a replicate."""
    reference = manifests.get(baseline)
    for variant, manifest in manifests.items():
        if variant == baseline or reference is None:
            continue
        yield Exact(variant, "artifact_bytes", {}, float(reference.bytes), float(manifest.bytes))
        yield Exact(variant, "parameters", {}, float(reference.parameters), float(manifest.parameters))
    peaks = worker_facts(events, "peak_bytes")
    loads = worker_facts(events, "load_ms")
    for metric, table in (("peak_memory", peaks), ("load_time", loads)):
        for variant, values in table.items():
            common = sorted(set(values) & set(table.get(baseline, {})))
            if variant in (baseline, CONTROL) or not common:
                continue
            yield ReplicateRatios(
                variant,
                metric,
                {},
                candidate=tuple(values[number] for number in common),
                baseline=tuple(table[baseline][number] for number in common),
                control=None,
            )


def worker_facts(events: Sequence[Mapping[str, Any]], fact: str) -> dict[str, dict[int, float]]:
    """A fact of the worker processes, by variant and replicate number."""
    table: dict[str, dict[int, float]] = {}
    for event in events:
        if event["event"] == "replicate":
            for variant, facts in event["workers"].items():
                table.setdefault(variant, {})[event["number"]] = float(np.float64(facts[fact]))
    return table
