"""What a run's samples, predictions and files say of each candidate against the baseline, as evidence for the judge."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..optimize.variant import Manifest
from .evidence import Evidence, Exact, ReplicateRatios, TooFewCalls
from .looks import LOOKS
from .samples import CONTROL, Replicate
from .speed import Statistic, ladders, statistics
from .sustained import sustained_evidence


def speed_evidence(
    replicates: Sequence[Replicate],
    baseline: str,
    kind: Literal["classifier", "decoder"],
    *,
    latency_limit: Mapping[str, float] | None = None,
    planned: int = LOOKS[-1],
) -> Iterator[Evidence]:
    """One piece of evidence a candidate, place and speed metric, from the replicates in which both were measured."""
    measured = {key for replicate in replicates for key in replicate.timed}
    candidates = sorted({variant for variant, _ in measured} - {baseline, CONTROL})
    shapes = {shape for _, shape in measured}
    for statistic in statistics(shapes, kind, {}):
        pieces = (speed_piece(statistic, replicates, variant, baseline, planned=planned) for variant in candidates)
        yield from filter(None, pieces)
    for ladder in ladders(shapes, latency_limit or {}):
        tried = (sustained_evidence(ladder, replicates, variant, baseline, planned=planned) for variant in candidates)
        yield from filter(None, tried)


def speed_piece(
    statistic: Statistic,
    replicates: Sequence[Replicate],
    variant: str,
    baseline: str,
    *,
    planned: int,
    twin_of: str | None = None,
) -> ReplicateRatios | TooFewCalls | None:
    """What the replicates say of one statistic of a variant and another; None where it was not measured for both.

    `twin_of` is whose twin the control is, where that is not the other.
    """
    beside = [each.beside(variant) for each in replicates]
    values = [(each, statistic.of(each, variant), statistic.of(each, baseline)) for each in beside]
    both = [(each, ours, theirs) for each, ours, theirs in values if ours is not None and theirs is not None]
    if not both:
        fewest = min((n for r in replicates if (n := statistic.calls(r, variant))), default=0)
        short = 0 < fewest < statistic.calls_needed
        place = (variant, statistic.metric.name, statistic.conditions)
        return TooFewCalls(*place, fewest, statistic.calls_needed) if short else None
    control = [statistic.ratio(each, CONTROL, [twin_of or baseline]) for each, _, _ in both]
    references = [baseline, CONTROL] if twin_of in (None, baseline) else [baseline]
    return ReplicateRatios(
        variant,
        statistic.metric.name,
        statistic.conditions,
        candidate=tuple(ours for _, ours, _ in both),
        baseline=tuple(theirs for _, _, theirs in both),
        control=_whole(control) if None not in control else None,
        relative=_whole([statistic.ratio(each, variant, references) for each, _, _ in both]),
        planned=planned,
    )


def _whole(values: Sequence[float | None]) -> tuple[float, ...]:
    """The values, none of which is missing."""
    return tuple(value for value in values if value is not None)


def cost_evidence(
    manifests: Mapping[str, Manifest],
    events: Sequence[Mapping[str, Any]],
    replicates: Sequence[Replicate],
    baseline: str,
    *,
    planned: int = LOOKS[-1],
) -> Iterator[Evidence]:
    """Sizes and build times; and what every process tells anew, a value a replicate: peak memory, load time, first calls."""
    for variant, manifest in manifests.items():
        if variant != baseline and baseline in manifests:
            yield from artifact_evidence(variant, manifests[baseline], manifest)
    tables = [
        ("peak_memory", "{}", worker_facts(events, "peak_bytes")),
        ("load_time", "{}", worker_facts(events, "load_ms")),
    ]
    tables += [("first_call", shape, table) for shape, table in _first_calls(replicates).items()]
    for metric, shape, table in tables:
        for variant in (name for name in table if name not in (baseline, CONTROL)):
            common = sorted(table[variant].keys() & table.get(baseline, {}).keys())
            if common:
                ours, theirs = (tuple(table[name][number] for number in common) for name in (variant, baseline))
                yield ReplicateRatios(variant, metric, json.loads(shape), ours, theirs, planned=planned)


def artifact_evidence(variant: str, reference: Manifest, manifest: Manifest) -> Iterator[Exact]:
    """What two manifests say: bytes, parameters, and the build times where both were built."""
    yield Exact(variant, "artifact_bytes", {}, float(reference.bytes), float(manifest.bytes))
    yield Exact(variant, "parameters", {}, float(reference.parameters), float(manifest.parameters))
    if was_built(reference) and was_built(manifest):
        yield Exact(
            variant,
            "build_time",
            {},
            reference.build_seconds,
            manifest.build_seconds,
            known="one build each, timed once",
        )


def was_built(manifest: Manifest) -> bool:
    """Whether a variant was built from the model; an existing artifact was only taken and checked."""
    return "artifact" not in manifest.recipe


def _first_calls(replicates: Sequence[Replicate]) -> dict[str, dict[str, dict[int, float]]]:
    """Milliseconds of first calls by shape, variant and replicate number."""
    tables: dict[str, dict[str, dict[int, float]]] = {}
    for replicate in replicates:
        for (variant, shape), milliseconds in replicate.first.items():
            tables.setdefault(shape, {}).setdefault(variant, {})[replicate.number] = milliseconds
    return tables


def worker_facts(events: Sequence[Mapping[str, Any]], fact: str) -> dict[str, dict[int, float]]:
    """A fact of the worker processes, by variant and replicate number."""
    table: dict[str, dict[int, float]] = {}
    for event in events:
        if event["event"] == "replicate":
            for variant, facts in event["workers"].items():
                table.setdefault(variant, {})[event["number"]] = float(np.float64(facts[fact]))
    return table
