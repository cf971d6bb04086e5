"""What predictions say of a candidate against the baseline on the same examples: evidence for the judge."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from .bounded_mean import BoundedMean, false_position
from .evidence import Agreement, Evidence, Interval, PairedAccuracy
from .metrics import METRICS, SHARES, Conditions, Kind
from .predictions import ClassPredictions
from .quality import NAMES, Estimate
from .stats import proportion_bounds, tango_bounds

_MOST_EXAMPLES = 1_000_000
_BISECTIONS = 40
_MOST_RATIO = 1e9
"""A ratio's upper bound where the baseline may be 0."""

_Bounds = tuple[Kind, float, float, float]


@dataclass(frozen=True, eq=False)
class PairedQuality:
    """A metric of baseline and candidate on the same examples, each with its influence function.

    A value or difference is the mean over examples of value + influence (bounded_mean.py). The worst that one more example could
    be is the worst change that any example of the data would bring, had the two best classes of the baseline, or of the
    candidate, changed places: so that a rare class, where a single answer weighs much, widens the interval. The bounds of a
    ratio are the ratios r at which candidate - r * baseline is just shown to lie above, and below, 0 (E. Fieller, Journal of
    the Royal Statistical Society B 16 (1954) 175-185).

    `squares` are the mean squares of baseline and candidate whose roots the metric compares, where it does: a root has the
    bounds of its mean square. A root of 0 has no influence function; against one the bounds of both are set, each at half of
    the error.
    """

    variant: str
    metric: str
    conditions: Conditions
    baseline: Estimate
    candidate: Estimate
    unit: Literal["examples"] = "examples"
    kinds: tuple[Kind, ...] = ("difference", "ratio", "value")
    squares: tuple[Estimate, Estimate] | None = None
    _known: dict[_Bounds, Interval] = field(default_factory=dict, init=False, repr=False)

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float, copies: float = 1.0) -> Interval | None:
        """Bounds of the difference, ratio or the candidate's value, as if the examples had come `copies` times.

        None for a ratio to a baseline of 0.
        """
        ours, theirs = self.candidate.value, self.baseline.value
        if kind == "ratio" and theirs <= 0:
            return None
        asked = (kind, alpha_low, alpha_high, copies)
        if asked not in self._known:
            value = {"value": ours, "difference": ours - theirs}.get(kind)
            value = ours / theirs if value is None else value
            bounds = self._bounds(kind, alpha_low, alpha_high, copies)
            self._known[asked] = Interval(value, *bounds, len(self.candidate.influence))
        return self._known[asked]

    def _bounds(self, kind: Kind, alpha_low: float, alpha_high: float, copies: float) -> tuple[float, float]:
        if self.squares and (kind == "value" or 0 in (self.baseline.value, self.candidate.value)):
            return _of_roots(kind, *self.squares, alpha_low, alpha_high, copies)
        if kind == "ratio":
            return self._ratio(alpha_low, alpha_high, copies)
        mean = self._difference if kind == "difference" else self._value
        return within_reach(self.metric, kind, mean.low(alpha_low, copies), mean.high(alpha_high, copies))

    @cached_property
    def _value(self) -> BoundedMean:
        return self.candidate.mean

    @cached_property
    def _difference(self) -> BoundedMean:
        return self._less(1.0)

    def _less(self, times: float) -> BoundedMean:
        """The mean that is candidate - times * baseline."""
        ours, theirs = self.candidate, self.baseline
        influence = ours.influence - times * theirs.influence
        flipped = [ours.flipped - times * theirs.influence, ours.influence - times * theirs.flipped]
        return Estimate(ours.value - times * theirs.value, influence, np.concatenate(flipped)).mean

    def _ratio(self, alpha_low: float, alpha_high: float, copies: float) -> tuple[float, float]:
        value = self.candidate.value / self.baseline.value
        beyond = max(1.0, 2 * value)
        while beyond < _MOST_RATIO and self._less(beyond).high(alpha_high, copies) > 0:
            beyond *= 2
        low = false_position(lambda ratio: -self._less(ratio).low(alpha_low, copies), 0.0, value)
        return low, false_position(lambda ratio: -self._less(ratio).high(alpha_high, copies), value, beyond)


def within_reach(metric: str, kind: Kind, low: float, high: float) -> tuple[float, float]:
    """Bounds of a value or difference, held to what the metric can be: a share lies in [0, 1]."""
    if metric not in SHARES:
        return low, high
    return max(low, -1.0 if kind == "difference" else 0.0), min(high, 1.0)


def _of_roots(
    kind: Kind, baseline: Estimate, candidate: Estimate, alpha_low: float, alpha_high: float, copies: float
) -> tuple[float, float]:
    """Bounds of the root of the candidate's mean square, or of its difference from or ratio to the baseline's root."""
    if kind == "value":
        return root_bounds(candidate, alpha_low, alpha_high, copies)
    ours = root_bounds(candidate, alpha_low / 2, alpha_high / 2, copies)
    theirs = root_bounds(baseline, alpha_high / 2, alpha_low / 2, copies)
    if kind == "difference":
        return ours[0] - theirs[1], ours[1] - theirs[0]
    return ours[0] / theirs[1], ours[1] / theirs[0] if theirs[0] else _MOST_RATIO


def root_bounds(square: Estimate, alpha_low: float, alpha_high: float, copies: float = 1.0) -> tuple[float, float]:
    """Bounds of the root of a mean square: the roots of its bounds, with the same errors."""
    return math.sqrt(max(0.0, square.mean.low(alpha_low, copies))), math.sqrt(square.mean.high(alpha_high, copies))


@dataclass(frozen=True)
class PairedClass:
    """The examples of one class: how many, right answers of each model, and those that only one of them has right."""

    name: str
    n: int
    baseline: int
    candidate: int
    gained: int
    lost: int

    def difference(self, alpha_low: float, alpha_high: float, copies: float = 1.0) -> tuple[float, float]:
        """Tango's score bounds of candidate's recall - baseline's."""
        return tango_bounds(copies * self.gained, copies * self.lost, copies * self.n, alpha_low, alpha_high)


def paired_classes(
    reference: ClassPredictions, answers: ClassPredictions, names: Sequence[str]
) -> tuple[PairedClass, ...]:
    """The classes that occur among the labels, in their order; one without a name is its number."""
    found = []
    for label in np.unique(answers.labels).tolist():
        inside = answers.labels == label
        ours, theirs = answers.correct[inside], reference.correct[inside]
        found.append(
            PairedClass(
                name=names[label] if label < len(names) else str(label),
                n=int(inside.sum()),
                baseline=int(theirs.sum()),
                candidate=int(ours.sum()),
                gained=int((ours & ~theirs).sum()),
                lost=int((theirs & ~ours).sum()),
            )
        )
    return tuple(found)


@dataclass(frozen=True, eq=False)
class WorstClassRecall:
    """The lowest recall of any class, with intervals that account for its having been chosen; K classes, recalls c and b.

    The candidate's worst recall is at most that of any class k:
    - lower: it is c_j of the truly worst class j, so that the least of the classes' lower bounds lies above it only where
      that of j does: no correction;
    - upper: it is at most every c_k, and the least of the classes' upper bounds, each at alpha / K, lies below one of them with
      at most alpha.
    The difference D = min c - min b, with j the candidate's worst class, is c_j - min b >= c_j - b_j: the least of Tango's lower
    bounds of c_k - b_k lies above it only where that of j does. It is also at least a lower bound of min c less an upper
    bound of min b. Each holds at half of alpha, so the higher of the two is the bound. Mirrored, with j the baseline's worst
    class: D = min c - b_j <= c_j - b_j, which is at most the greatest of Tango's upper bounds.
    """

    variant: str
    metric: str
    conditions: Conditions
    classes: tuple[PairedClass, ...]
    unit: Literal["examples"] = "examples"
    kinds: tuple[Kind, ...] = ("difference", "value")
    _known: dict[_Bounds, Interval] = field(default_factory=dict, init=False, repr=False)

    @property
    def worst(self) -> PairedClass:
        """The class of the candidate's lowest recall; of several the one with fewest examples."""
        return min(self.classes, key=lambda each: (each.candidate / each.n, each.n))

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float, copies: float = 1.0) -> Interval | None:
        """Bounds of the difference of the worst recalls, or of the candidate's; `n` is that of the candidate's worst class."""
        if kind == "ratio":
            return None
        asked = (kind, alpha_low, alpha_high, copies)
        if asked not in self._known:
            bounds = self._difference if kind == "difference" else self.value_bounds
            value = self.worst.candidate / self.worst.n
            if kind == "difference":
                value -= min(each.baseline / each.n for each in self.classes)
            self._known[asked] = Interval(value, *bounds(alpha_low, alpha_high, copies), self.worst.n)
        return self._known[asked]

    def value_bounds(self, alpha_low: float, alpha_high: float, copies: float = 1.0) -> tuple[float, float]:
        """Bounds of the candidate's lowest recall."""
        return _least([(each.candidate, each.n) for each in self.classes], alpha_low, alpha_high, copies)

    def _difference(self, alpha_low: float, alpha_high: float, copies: float) -> tuple[float, float]:
        pairs = [each.difference(alpha_low / 2, alpha_high / 2, copies) for each in self.classes]
        ours = self.value_bounds(alpha_low / 4, alpha_high / 4, copies)
        theirs = _least([(each.baseline, each.n) for each in self.classes], alpha_high / 4, alpha_low / 4, copies)
        low = max(min(low for low, _ in pairs), ours[0] - theirs[1])
        high = min(max(high for _, high in pairs), ours[1] - theirs[0])
        return low, high


def _least(
    hits_and_n: Sequence[tuple[int, int]], alpha_low: float, alpha_high: float, copies: float
) -> tuple[float, float]:
    """Bounds of the lowest of several proportions."""
    share = alpha_high / len(hits_and_n)
    bounds = [proportion_bounds(copies * hits, copies * n, alpha_low, share) for hits, n in hits_and_n]
    return min(low for low, _ in bounds), min(high for _, high in bounds)


@dataclass(frozen=True)
class Undefined:
    """A metric that has no value within a slice, and why: never a pass."""

    variant: str
    metric: str
    conditions: Conditions
    why: str
    unit: Literal[""] = ""
    kinds: tuple[Kind, ...] = ("difference", "ratio", "value")

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> None:
        """None, whatever the errors."""
        del kind, alpha_low, alpha_high


def copies_to_decide(
    piece: PairedQuality | WorstClassRecall | Agreement, kind: Kind, limit: float, alphas: tuple[float, float]
) -> float | None:
    """How many times as many examples, in the same proportions, would put the limit outside the interval.

    None where a million would not.
    """

    def decided(copies: float) -> bool:
        found = piece.interval(kind, *alphas, copies)
        return found is not None and not found.low <= limit <= found.high

    known = piece.interval(kind, *alphas)
    most = _MOST_EXAMPLES / max(1, known.n if known else 1)
    return _first(decided, 1.0, most)


def _first(decided: Callable[[float], bool], low: float, high: float) -> float | None:
    """The place, to a hundredth, from which on a question is answered yes; None: not at the high end either."""
    if not decided(high):
        return None
    for _ in range(_BISECTIONS):
        if high - low <= 0.01 * low:
            break
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def quality_evidence(
    classes: Mapping[str, ClassPredictions], baseline: str, class_names: Sequence[str] = ()
) -> Iterator[Evidence]:
    """Paired evidence on all examples: every quality metric of classifiers."""
    for variant, reference, answers in _pairs(classes, baseline):
        yield from _of_pair(variant, reference, answers, {}, METRICS, class_names)


def slice_evidence(
    classes: Mapping[str, ClassPredictions], baseline: str, metrics: Collection[str], class_names: Sequence[str] = ()
) -> Iterator[Evidence]:
    """Paired evidence within each value of every data column that the candidate's run kept, for these metrics."""
    for variant, reference, answers in _pairs(classes, baseline):
        alike = reference if reference.slices == answers.slices else replace(reference, slices=answers.slices)
        for name, inside in answers.sliced.items():
            yield from _of_pair(variant, alike.sliced[name], inside, {"slice": name}, metrics, class_names)


def _pairs(
    classes: Mapping[str, ClassPredictions], baseline: str
) -> Iterator[tuple[str, ClassPredictions, ClassPredictions]]:
    reference = classes.get(baseline)
    for variant, answers in classes.items():
        if variant != baseline and reference is not None:
            yield variant, reference, answers


def _of_pair(
    variant: str,
    reference: ClassPredictions,
    answers: ClassPredictions,
    conditions: Conditions,
    metrics: Collection[str],
    class_names: Sequence[str],
) -> Iterator[Evidence]:
    """The evidence of one candidate on one set of examples, for these metrics."""
    if "agreement" in metrics:
        yield Agreement(variant, "agreement", conditions, answers.predicted == reference.predicted)
    if not answers.labelled:
        return
    if "accuracy" in metrics:
        yield PairedAccuracy(variant, "accuracy", conditions, reference.correct, answers.correct)
    if "worst_class_recall" in metrics:
        found = paired_classes(reference, answers, class_names)
        yield WorstClassRecall(variant, "worst_class_recall", conditions, found)
    for name in NAMES:
        if name not in metrics:
            continue
        if name not in answers.quality or name not in reference.quality:
            if conditions:  # a slice that lacks it must not drop out of a rule that the other slices keep
                yield Undefined(variant, name, conditions, _why_undefined(name, answers))
            continue
        squares = (reference.quality["mse"], answers.quality["mse"]) if name == "rmse" else None
        pair = (reference.quality[name], answers.quality[name])
        yield PairedQuality(variant, name, conditions, *pair, squares=squares)


def _why_undefined(metric: str, answers: ClassPredictions) -> str:
    one_class = metric == "roc_auc" and len(np.unique(answers.labels)) == 1
    return "all labels are of one class" if one_class else "a score is not finite"
