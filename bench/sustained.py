"""The highest rate that a variant sustains, as evidence: each rate is a question of its own, with a yes, a no, or neither.

Replicates agree on the highest rate more often than its odds allow to believe: of a percentile that lies near its limit some
replicates see one side alone. So intervals are made of what was measured, the percentile at each rate and the time that a call takes
alone, and the rates follow from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .evidence import Interval, TooFewCalls
from .looks import LOOKS, looks_within, per_look_error
from .metrics import Conditions, Kind
from .samples import Replicate
from .speed import Ladder, last_held
from .stats import t_bounds

_MOST_RATIO = 1e9
"""A ratio's upper bound where the baseline may sustain none of the rates."""


@dataclass(frozen=True)
class RateTried:
    """What each replicate shows of one rate: the limited percentile in ms, and the share of its time that the server is busy.

    `busy` is empty where no caller was alone.
    """

    rate: float
    latencies: tuple[float, ...]
    busy: tuple[float, ...] = ()

    def holds(self, limit: float, n: int) -> bool:
        """Whether the means of the first n replicates do."""
        means = [float(np.mean(each[:n])) for each in self._measured]
        return means[0] <= limit and all(mean < 1 for mean in means[1:])

    def proven(self, limit: float, n: int, alpha: float) -> bool:
        """Whether the first n replicates show that the rate holds; wrongly so with at most the error `alpha`."""
        bounds = [t_bounds(np.array(each[:n]), alpha, alpha)[1] for each in self._measured]
        return bounds[0] <= limit and all(bound < 1 for bound in bounds[1:])

    def refuted(self, limit: float, n: int, alpha: float) -> bool:
        """Whether they show that it does not; the error is shared between the percentile and the capacity."""
        share = alpha / len(self._measured)
        bounds = [t_bounds(np.array(each[:n]), share, share)[0] for each in self._measured]
        return bounds[0] > limit or any(bound >= 1 for bound in bounds[1:])

    @property
    def _measured(self) -> list[tuple[float, ...]]:
        return [self.latencies, self.busy] if self.busy else [self.latencies]


@dataclass(frozen=True)
class SustainedRate:
    """The rates that candidate and baseline were tried at, ascending, and the limit of the percentile in ms.

    The truth is the highest rate up to which every rate holds. Its lower bound is the last rate of those proven to hold, from the
    lowest on, up to the first that is not: it lies above the truth only where the first rate that does not hold is proven. Its
    upper bound is the highest rate that is not refuted: it lies below the truth only where that rate is refuted itself. Neither
    needs a share of the error for each rate. A ratio or difference sets the bounds of both against each other, each at half.
    """

    variant: str
    metric: str
    conditions: Conditions
    candidate: tuple[RateTried, ...]
    baseline: tuple[RateTried, ...]
    limit: float
    planned: int = LOOKS[-1]
    unit: Literal["replicates"] = "replicates"
    kinds: tuple[Kind, ...] = ("ratio", "difference", "value")

    @property
    def looked_at(self) -> int:
        """Replicates up to the last look; 0 before the first."""
        taken = min(len(each.latencies) for each in (*self.candidate, *self.baseline))
        return max(looks_within(min(taken, self.planned)), default=0)

    def interval(self, kind: Kind, alpha_low: float, alpha_high: float) -> Interval | None:
        """Bounds in requests/s, or of a ratio, which there is none of where the baseline sustains none of the rates."""
        if self.looked_at == 0:
            return None
        if kind == "value":
            return self._of(self.candidate, alpha_low, alpha_high)
        ours, theirs = self.sides(alpha_low, alpha_high)
        if kind == "difference":
            return Interval(ours.value - theirs.value, ours.low - theirs.high, ours.high - theirs.low, ours.n)
        if theirs.value == 0:
            return None
        high = ours.high / theirs.low if theirs.low else _MOST_RATIO
        return Interval(ours.value / theirs.value, ours.low / theirs.high, high, ours.n)

    def sides(self, alpha_low: float, alpha_high: float) -> tuple[Interval, Interval]:
        """What a comparison is made of: the rates of the candidate and of the baseline, each at half of the errors."""
        ours = self._of(self.candidate, alpha_low / 2, alpha_high / 2)
        return ours, self._of(self.baseline, alpha_high / 2, alpha_low / 2)

    def _of(self, tried: Sequence[RateTried], alpha_low: float, alpha_high: float) -> Interval:
        n = self.looked_at
        low, high = (per_look_error(alpha, self.planned) for alpha in (alpha_low, alpha_high))
        return Interval(
            last_held([each.rate for each in tried], [each.holds(self.limit, n) for each in tried]),
            last_held([each.rate for each in tried], [each.proven(self.limit, n, low) for each in tried]),
            max((each.rate for each in tried if not each.refuted(self.limit, n, high)), default=0.0),
            n,
        )


def sustained_evidence(
    ladder: Ladder, replicates: Sequence[Replicate], variant: str, baseline: str, *, planned: int
) -> SustainedRate | TooFewCalls | None:
    """What the replicates say of the rates that a candidate and the baseline sustain; None where they were tried at none."""
    beside = [each.beside(variant) for each in replicates]
    both = [_tried(ladder, beside, name) for name in (variant, baseline)]
    if all(tried is not None for tried in both):
        ours, theirs = (tuple(tried or ()) for tried in both)
        return SustainedRate(variant, "sustained_rate", ladder.conditions, ours, theirs, ladder.limit, planned)
    calls = [rung.latency.calls(each, variant) for rung in ladder.rungs for each in replicates]
    needed = ladder.rungs[0].latency.calls_needed
    fewest = min(filter(None, calls), default=0)
    return TooFewCalls(variant, "sustained_rate", ladder.conditions, fewest, needed) if 0 < fewest < needed else None


def _tried(ladder: Ladder, replicates: Sequence[Replicate], variant: str) -> list[RateTried] | None:
    """The rates of one variant; None where at some of them it was not measured in every replicate."""
    found = []
    for rung in ladder.rungs:
        latencies = [rung.latency.of(each, variant) for each in replicates]
        busy = [rung.busy(each, variant) for each in replicates]
        if not latencies or None in latencies:
            return None
        found.append(RateTried(rung.rate, _known(latencies), _known(busy)))
    return found


def _known(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)
