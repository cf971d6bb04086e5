"""What is known of one candidate against the baseline, for one metric at one shape.

Each kind of evidence answers one question: the interval of a value, ratio or difference, given the error allowed on each
side. The judge needs nothing else of it.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .looks import LOOKS, looks_within, per_look_error
from .metrics import Conditions, Kind
from .stats import bounded_exp, proportion_bounds, t_bounds, t_quantile, tango_bounds, welch_bounds

LEAST_WINDOWS = 2
"""One window of text has no spread."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its bounds; `n` replicates or examples."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ControlInterval:
    """The twin's ratio to the baseline and its bounds, with the single ratios."""

    value: float
    low: float
    high: float
    per_replicate: tuple[float, ...]

    @property
    def bias(self) -> float:
        """The distance of the log ratio from 0 that the interval proves; 0 where it includes 1."""
        return max(0.0, math.log(self.low), -math.log(self.high))

    @property
    def floor(self) -> float:
        """The smallest relative change that this run could tell from none."""
        return max(self.high - 1, 1 - self.low)


class Evidence(Protocol):
    """Of one candidate, metric and shape."""

    @property
    def variant(self) -> str:
        """The candidate."""

    @property
    def metric(self) -> str:
        """The metric's name."""

    @property
    def conditions(self) -> Conditions:
        """The shape."""

    @property
    def unit(self) -> Literal["replicates", "examples", ""]:
        """What `n` counts; empty where the value is exact."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be compared: the first is what a report shows."""

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds that the truth passes with at most these one-sided errors; None where there is too little to say."""


def _positive(*series: tuple[float, ...]) -> bool:
    """Whether every value has a logarithm."""
    return all(0 < value < math.inf for values in series for value in values)


@dataclass(frozen=True)
class ReplicateRatios:
    """A statistic of every replicate, for candidate and baseline; replicates are independent.

    `relative` are the ratios of the replicates where these are more than candidate / baseline (speed.py); `control` are
    those of the baseline's twin. Student's t over the replicates (ratios: over their logarithms), the error of each side shared
    among the looks that were planned (`planned` replicates at most), with the replicates up to the last look. Ratios are
    widened by the control's distance from 1 where its own interval, at the same errors, excludes 1.
    """

    variant: str
    metric: str
    conditions: Conditions
    candidate: tuple[float, ...]
    baseline: tuple[float, ...]
    control: tuple[float, ...] | None = None
    relative: tuple[float, ...] = ()
    planned: int = LOOKS[-1]
    unit: Literal["replicates"] = "replicates"
    kinds: tuple[Kind, ...] = ("ratio", "difference", "value")

    @property
    def looked_at(self) -> int:
        """Replicates up to the last look; 0 before the first."""
        return max(looks_within(min(len(self.candidate), self.planned)), default=0)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Candidate / baseline of each replicate; infinite where the baseline is 0."""
        return self.relative or tuple(
            c / b if b else math.inf for c, b in zip(self.candidate, self.baseline, strict=True)
        )

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds of the ratio, of the difference in the metric's unit, or of the candidate's own value."""
        n = self.looked_at
        if n == 0:
            return None
        candidate, baseline = np.array(self.candidate[:n]), np.array(self.baseline[:n])
        if kind == "value":
            return self._t_interval(candidate, alpha_low, alpha_high)
        if kind == "difference":
            return self._t_interval(candidate - baseline, alpha_low, alpha_high)
        if not _positive(self.ratios):
            return None
        logs = self._t_interval(np.log(self.ratios[:n]), alpha_low, alpha_high)
        control = self.control_interval(alpha_low, alpha_high)
        bias = control.bias if control else 0.0
        return Interval(bounded_exp(logs.value), bounded_exp(logs.low - bias), bounded_exp(logs.high + bias), n)

    def control_interval(self, alpha_low: float, alpha_high: float) -> ControlInterval | None:
        """The twin's ratio with its bounds; None where it was not weighed."""
        n = self.looked_at
        if self.control is None or n == 0 or not _positive(self.control):
            return None
        logs = self._t_interval(np.log(self.control[:n]), alpha_low, alpha_high)
        return ControlInterval(bounded_exp(logs.value), bounded_exp(logs.low), bounded_exp(logs.high), self.control[:n])

    def _t_interval(self, values: NDArray[np.float64], alpha_low: float, alpha_high: float) -> Interval:
        errors = (per_look_error(alpha, self.planned) for alpha in (alpha_low, alpha_high))
        return Interval(float(values.mean()), *t_bounds(values, *errors), len(values))


@dataclass(frozen=True)
class TwoRuns:
    """A metric of a variant in this run against a saved one: the ratio of two means of logs, each over its own replicates.

    `through_baselines`: what is compared are ratios to each run's baseline, widened by both controls' distances from 1;
    otherwise the values themselves. Welch's t (Biometrika 34, 1947, 28-35), the error of each side shared among the looks.
    """

    variant: str
    metric: str
    conditions: Conditions
    now: ReplicateRatios
    then: ReplicateRatios
    through_baselines: bool
    unit: Literal["replicates"] = "replicates"
    kinds: tuple[Kind, ...] = ("ratio",)

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds of the ratio of now to then; None where a run has no look yet, or for another kind."""
        values = [each.ratios if self.through_baselines else each.candidate for each in (self.now, self.then)]
        if kind != "ratio" or self.looked_at == 0 or not _positive(*values):
            return None
        now, then = (np.log(np.array(each)) for each in values)
        errors = [per_look_error(alpha, min(self.now.planned, self.then.planned)) for alpha in (alpha_low, alpha_high)]
        low, high = welch_bounds(now, then, *errors)
        bias = sum(self._bias(each, alpha_low, alpha_high) for each in (self.now, self.then))
        ratio = bounded_exp(now.mean() - then.mean())
        return Interval(ratio, bounded_exp(low - bias), bounded_exp(high + bias), self.looked_at)

    @property
    def looked_at(self) -> int:
        """Replicates of the run that has fewer, up to its last look."""
        return min(self.now.looked_at, self.then.looked_at)

    def _bias(self, run: ReplicateRatios, alpha_low: float, alpha_high: float) -> float:
        control = run.control_interval(alpha_low, alpha_high) if self.through_baselines else None
        return control.bias if control else 0.0


@dataclass(frozen=True)
class Incomparable:
    """What cannot be compared across runs, and why: undecided, whatever the rule."""

    variant: str
    metric: str
    conditions: Conditions
    why: str
    unit: Literal[""] = ""
    kinds: tuple[Kind, ...] = ("ratio", "difference", "value")

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> None:
        """None, whatever the errors."""
        del kind, alpha_low, alpha_high


@dataclass(frozen=True)
class TooFewCalls:
    """A percentile that was measured with `calls` timed calls a replicate, fewer than the `needed` ones: no number."""

    variant: str
    metric: str
    conditions: Conditions
    calls: int
    needed: int
    unit: Literal[""] = ""
    kinds: tuple[Kind, ...] = ("ratio", "difference", "value")

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> None:
        """None, whatever the errors."""
        del kind, alpha_low, alpha_high


@dataclass(frozen=True)
class PairedAccuracy:
    """Right or wrong on the same examples, shape (examples,) each: Tango's score interval of the difference.

    A ratio is bounded through the difference: with the baseline's accuracy p at its own exact upper or lower bound, half of
    the error spent there, 1 + d/p lies beyond the bound with at most the stated error.
    """

    variant: str
    metric: str
    conditions: Conditions
    baseline_right: NDArray[np.bool_]
    candidate_right: NDArray[np.bool_]
    unit: Literal["examples"] = "examples"
    kinds: tuple[Kind, ...] = ("difference", "ratio", "value")

    @property
    def changed(self) -> int:
        """Examples that only one of the two answers rightly."""
        return int((self.baseline_right != self.candidate_right).sum())

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds of the difference of accuracies, of their ratio, or of the candidate's accuracy."""
        n = len(self.candidate_right)
        right = int(self.candidate_right.sum())
        if kind == "value":
            return Interval(right / n, *proportion_bounds(right, n, alpha_low, alpha_high), n)
        if kind == "difference":
            difference = (right - int(self.baseline_right.sum())) / n
            return Interval(difference, *self._difference(alpha_low, alpha_high), n)
        return self._ratio(alpha_low, alpha_high)

    def _difference(self, alpha_low: float, alpha_high: float) -> tuple[float, float]:
        gained = int((self.candidate_right & ~self.baseline_right).sum())
        lost = int((self.baseline_right & ~self.candidate_right).sum())
        return tango_bounds(gained, lost, len(self.candidate_right), alpha_low, alpha_high)

    def _ratio(self, alpha_low: float, alpha_high: float) -> Interval | None:
        n = len(self.candidate_right)
        hits = int(self.baseline_right.sum())
        if hits == 0:
            return None
        low, high = self._difference(alpha_low / 2, alpha_high / 2)
        least, most = proportion_bounds(hits, n, min(alpha_low, alpha_high) / 4, min(alpha_low, alpha_high) / 4)
        value = int(self.candidate_right.sum()) / hits
        return Interval(value, 1 + low / (least if low < 0 else most), 1 + high / (most if high < 0 else least), n)


@dataclass(frozen=True)
class Agreement:
    """Whether the candidate predicts what the baseline does, shape (examples,)."""

    variant: str
    metric: str
    conditions: Conditions
    same: NDArray[np.bool_]
    unit: Literal["examples"] = "examples"
    kinds: tuple[Kind, ...] = ("value",)

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float, copies: float = 1.0) -> Interval | None:
        """Exact bounds of the share that agrees, as if the examples had come `copies` times.

        Agreement is itself a comparison, so it has a value only.
        """
        if kind != "value":
            return None
        hits, n = int(self.same.sum()), len(self.same)
        return Interval(hits / n, *proportion_bounds(copies * hits, copies * n, alpha_low, alpha_high), n)


@dataclass(frozen=True)
class Perplexity:
    """Summed -ln p of the same windows for both, and the tokens scored in each; shape (windows,) each.

    The log of the ratio of perplexities is the token-weighted mean difference of -ln p; its error is that of a ratio of sums over
    windows, with Student's t.
    """

    variant: str
    metric: str
    conditions: Conditions
    baseline_nll: NDArray[np.float64]
    candidate_nll: NDArray[np.float64]
    tokens: NDArray[np.float64]
    unit: Literal["examples"] = "examples"
    kinds: tuple[Kind, ...] = ("ratio", "value")

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds of the ratio of perplexities, or of the candidate's perplexity."""
        if kind == "difference" or len(self.tokens) < LEAST_WINDOWS:
            return None
        nll = self.candidate_nll - (self.baseline_nll if kind == "ratio" else 0.0)
        found = _ratio_interval(nll, self.tokens, alpha_low, alpha_high)
        return Interval(bounded_exp(found.value), bounded_exp(found.low), bounded_exp(found.high), found.n)


@dataclass(frozen=True)
class BitsPerByte:
    """Summed -ln p of the same windows for both, and the bytes of text scored in each; shape (windows,) each.

    All three comparisons are ratios of sums over windows; their error is as that of Perplexity.
    """

    variant: str
    metric: str
    conditions: Conditions
    baseline_nll: NDArray[np.float64]
    candidate_nll: NDArray[np.float64]
    bytes: NDArray[np.float64]
    unit: Literal["examples"] = "examples"
    kinds: tuple[Kind, ...] = ("ratio", "difference", "value")

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds of the ratio, of the difference in bits, or of the candidate's bits a byte."""
        if len(self.bytes) < LEAST_WINDOWS or (kind == "ratio" and not self.baseline_nll.sum() > 0):
            return None
        if kind == "ratio":
            return _ratio_interval(self.candidate_nll, self.baseline_nll, alpha_low, alpha_high)
        nll = self.candidate_nll - (self.baseline_nll if kind == "difference" else 0.0)
        return _ratio_interval(nll / math.log(2), self.bytes, alpha_low, alpha_high)


def ratio_of_sums(above: NDArray[np.float64], below: NDArray[np.float64]) -> tuple[float, float]:
    """The sum of `above` over that of `below`, shape (windows,) each, at least two; and its standard error.

    The error is the ratio estimator's (Cochran, Sampling Techniques, 1977, section 6.3).
    """
    n, total = len(above), float(below.sum())
    ratio = float(above.sum()) / total
    return ratio, math.sqrt(n / (n - 1) * float(((above - ratio * below) ** 2).sum())) / total


def _ratio_interval(
    above: NDArray[np.float64], below: NDArray[np.float64], alpha_low: float, alpha_high: float
) -> Interval:
    """A ratio of sums with Student's t bounds for the windows."""
    n = len(above)
    ratio, error = ratio_of_sums(above, below)
    return Interval(
        ratio, ratio + error * t_quantile(alpha_low, n - 1), ratio - error * t_quantile(alpha_high, n - 1), n
    )


@dataclass(frozen=True)
class Exact:
    """A number without an interval: a size or a count, or what was timed once; `known` says which, in words."""

    variant: str
    metric: str
    conditions: Conditions
    baseline: float
    candidate: float
    unit: Literal[""] = ""
    kinds: tuple[Kind, ...] = ("ratio", "difference", "value")
    known: str = "exact"

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """The number itself as both bounds."""
        del alpha_low, alpha_high
        if kind == "ratio" and self.baseline == 0:
            return None
        value = {"value": self.candidate, "difference": self.candidate - self.baseline}.get(kind)
        value = self.candidate / self.baseline if value is None else value
        return Interval(value, value, value, 1)
