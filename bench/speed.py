"""What the timed calls of one replicate say of a variant: every speed metric at every shape, and over shapes.

The evidence for the judge and the values of the report are made of the same statistics.
"""

import itertools
import json
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .metrics import END_TO_END, METRICS, Conditions, Metric, past_parts
from .samples import Replicate, key_of
from .stats import least_n

BEST = "best"
"""The value of `batch_size` under which the best throughput of all batch sizes is kept."""


@dataclass(frozen=True)
class Statistic:
    """A metric at a place: `of` gives its value for a variant in a replicate, None where it was not measured there.

    `calls_needed` is the least number of timed calls for a percentile, 1 elsewhere; `shape` the key of the shape whose calls
    it is made of, empty where it is made of several shapes.
    """

    metric: Metric
    conditions: Conditions
    of: Callable[[Replicate, str], float | None]
    shape: str = ""
    calls_needed: int = 1

    def ratio(self, replicate: Replicate, variant: str, references: Sequence[str]) -> float | None:
        """The statistic of a variant over that of others, which are equal: a model and its twin, whichever were measured.

        Of a median it is the median, over the rounds and the references, of the ratio of two visits: they lie close in time, so
        that a machine that changes its pace within a replicate changes both. Else it is over the references' geometric mean.
        None where the variant or all references were not measured.
        """
        in_rounds = [name for name in references if (name, self.shape) in replicate.rounds]
        if self.metric.by_round and in_rounds and (variant, self.shape) in replicate.rounds:
            return self._ratio_by_round(replicate, variant, in_rounds)
        ours = self.of(replicate, variant)
        theirs = [value for name in references if (value := self.of(replicate, name)) is not None]
        if ours is None or not theirs:
            return None
        mean = math.prod(theirs) ** (1 / len(theirs))
        return ours / mean if mean else math.inf

    def _ratio_by_round(self, replicate: Replicate, variant: str, references: Sequence[str]) -> float | None:
        ours = self._by_round(replicate, variant)
        others = [self._by_round(replicate, name) for name in references]
        ratios = [ours[each] / theirs[each] for theirs in others for each in ours if theirs.get(each)]
        return float(np.median(ratios)) if ratios else None

    def _by_round(self, replicate: Replicate, variant: str) -> dict[int, float]:
        place = (self.metric.name, variant, key_of(self.conditions))
        if place not in replicate.by_round:
            replicate.by_round[place] = self._computed_by_round(replicate, variant)
        return replicate.by_round[place]

    def _computed_by_round(self, replicate: Replicate, variant: str) -> dict[int, float]:
        of_calls = self.metric.of_calls
        visits = replicate.visits(variant, self.shape).items()
        values = {each: of_calls(calls, self.conditions) for each, calls in visits} if of_calls else {}
        return {each: value for each, value in values.items() if value is not None}

    def calls(self, replicate: Replicate, variant: str) -> int:
        """How many timed calls of its shape a replicate holds."""
        return len(replicate.timed.get((variant, self.shape), ()))


def statistics(
    shapes: Iterable[str], kind: Literal["classifier", "decoder"], latency_limit: Mapping[str, float]
) -> Iterator[Statistic]:
    """Every statistic of a run that measured these shapes (keys of their conditions)."""
    conditions: dict[str, Conditions] = {shape: json.loads(shape) for shape in sorted(shapes)}
    for shape in conditions.values():
        yield from (of_shape(metric, shape) for metric in timed_metrics(kind, raw=END_TO_END in shape))
        if kind == "decoder":
            yield from (of_shape(METRICS["tpot"], {**shape, "past_length": past}) for past in past_parts(shape))
    if kind == "classifier":
        yield from _best_throughputs(conditions.values())
        for ladder in ladders(shapes, latency_limit):
            yield Statistic(METRICS["sustained_rate"], ladder.conditions, ladder.highest)


def timed_metrics(kind: Literal["classifier", "decoder"], *, raw: bool = False) -> list[Metric]:
    """The metrics that timed calls of this kind of model give; with `raw`, those of calls that start from raw inputs."""
    family = "generation" if kind == "decoder" else "speed"
    timed = [metric for metric in METRICS.values() if metric.family == family and metric.of_calls is not None]
    return [metric for metric in timed if metric.raw == raw]


def of_shape(metric: Metric, conditions: Conditions) -> Statistic:
    """A metric of the calls of one shape, or at one `past_length` within them; a percentile of too few calls has no value."""
    key = key_of({name: value for name, value in conditions.items() if name != "past_length"})
    needed = 1 if metric.percentile is None else least_n(metric.percentile / 100)

    def of(replicate: Replicate, variant: str) -> float | None:
        calls = replicate.timed.get((variant, key))
        enough = calls is not None and len(calls) >= needed
        return metric.of_calls(calls, conditions) if enough and metric.of_calls else None  # type: ignore[arg-type]

    told = {name: value for name, value in conditions.items() if name != END_TO_END}
    return Statistic(metric, told, of, key, needed)


def _best_throughputs(shapes: Iterable[Conditions]) -> Iterator[Statistic]:
    """The highest throughput of the batch sizes, for shapes that differ in nothing else."""
    closed = (shape for shape in shapes if "rate" not in shape and END_TO_END not in shape)
    for rest, group in _alike_but(closed, "batch_size"):
        if len(group) > 1:
            parts = [of_shape(METRICS["throughput"], shape) for shape in group]
            yield Statistic(METRICS["throughput"], {"batch_size": BEST, **rest}, _highest(parts))


def _highest(parts: list[Statistic]) -> Callable[[Replicate, str], float | None]:
    def of(replicate: Replicate, variant: str) -> float | None:
        values = [part.of(replicate, variant) for part in parts]
        return max((value for value in values if value is not None), default=None)

    return of


@dataclass(frozen=True)
class Rung:
    """One of the rates (requests/s): the percentile that is limited, and the mean of a caller alone."""

    rate: float
    latency: Statistic
    alone: Statistic

    def busy(self, replicate: Replicate, variant: str) -> float | None:
        """The share of its time that one server needs to serve the rate; at 1 the queue grows without end.

        None where no caller was alone.
        """
        mean = self.alone.of(replicate, variant)
        return None if mean is None else self.rate * mean / 1e3


@dataclass(frozen=True)
class Ladder:
    """The rates of shapes that differ in nothing else, ascending, and the limit of their percentile in ms."""

    conditions: Conditions
    rungs: tuple[Rung, ...]
    limit: float

    def highest(self, replicate: Replicate, variant: str) -> float | None:
        """The highest rate up to which all hold, 0 where the lowest does not; None where one was not measured."""
        latencies = [rung.latency.of(replicate, variant) for rung in self.rungs]
        if None in latencies:
            return None
        held = [
            latency is not None and latency <= self.limit and (rung.busy(replicate, variant) or 0.0) < 1
            for rung, latency in zip(self.rungs, latencies, strict=True)
        ]
        return last_held([rung.rate for rung in self.rungs], held)


def last_held(rates: Sequence[float], held: Sequence[bool]) -> float:
    """The last of the rates, ascending, before the first that does not hold; 0 where that is the lowest."""
    kept = [rate for rate, _ in itertools.takewhile(lambda pair: pair[1], zip(rates, held, strict=True))]
    return kept[-1] if kept else 0.0


def ladders(shapes: Iterable[str], latency_limit: Mapping[str, float]) -> Iterator[Ladder]:
    """The rates that were tried at each place, for the limit of one percentile; none without a limit."""
    known = set(shapes)
    open_ = [conditions for conditions in map(json.loads, sorted(known)) if "rate" in conditions]
    for name, limit in latency_limit.items():
        for rest, group in _alike_but(open_, "rate"):
            alone = of_shape(METRICS["latency_mean"], _alone(rest, known))
            tried = sorted(group, key=lambda shape: float(shape["rate"]))
            rungs = (Rung(float(shape["rate"]), of_shape(METRICS[name], shape), alone) for shape in tried)
            yield Ladder(rest, tuple(rungs), limit)


def _alone(rest: Conditions, known: Container[str]) -> Conditions:
    """The shape of a caller alone among the known ones, by the conditions without its rate: it may have a number of callers, 1."""
    return next((each for each in (rest, {**rest, "concurrency": 1}) if key_of(each) in known), rest)


def load_note(variant: str, statistic: Statistic, replicate: Replicate) -> str:
    """What a reader must know of a value: which batch size was best, or that the rate is over what the variant can serve."""
    conditions = statistic.conditions
    if conditions.get("batch_size") == BEST:
        return f"best at batch_size {_best_batch(variant, statistic, replicate)}"
    if "rate" not in conditions:
        return ""
    known = {shape for _, shape in replicate.timed}
    shape = _alone({name: value for name, value in conditions.items() if name != "rate"}, known)
    alone = replicate.timed.get((variant, key_of(shape)))
    capacity = 1e3 / float(alone.sum(axis=1).mean()) if alone is not None else float("inf")
    if float(conditions["rate"]) < capacity:
        return ""
    return f"over its capacity of about {capacity:.3g} requests/s: the queue grows as long as it is fed"


def _best_batch(variant: str, statistic: Statistic, replicate: Replicate) -> int:
    rest = {name: value for name, value in statistic.conditions.items() if name != "batch_size"}
    shapes: list[Conditions] = [json.loads(shape) for name, shape in replicate.timed if name == variant]
    sizes = [int(shape["batch_size"]) for shape in shapes if {**shape, "batch_size": 0} == {**rest, "batch_size": 0}]
    return max(
        sizes, key=lambda size: of_shape(statistic.metric, {**rest, "batch_size": size}).of(replicate, variant) or 0.0
    )


def _alike_but(shapes: Iterable[Conditions], key: str) -> Iterator[tuple[Conditions, list[Conditions]]]:
    """Groups of shapes that differ in `key` alone, each with what they share."""

    def rest(shape: Conditions) -> str:
        return key_of({name: value for name, value in shape.items() if name != key})

    for shared, group in itertools.groupby(sorted(shapes, key=rest), key=rest):
        yield json.loads(shared), list(group)
