"""Bounds of a mean of which nothing is known but a sample, and the worst and best that one more example could be.

The lower bound is Gaffke's (N. Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
nonnegative variable", Mathematical Methods of Statistics 14 (2005) 451-467; E. Learned-Miller and P. Thomas, arXiv:1905.06208):
the alpha quantile of the mean of the sample and its worst value under Dirichlet(1, ..., 1) weights. That is a Bayesian bootstrap
of the examples with one more, the worst, so that it answers even where no example differs; for values of 0 and 1 it is Clopper
and Pearson's exact bound. The quantile is not drawn but found by a saddlepoint: independent exponentials over their sum are
such weights, so that P(mean <= t) is the tail of a sum of exponentials (Barndorff-Nielsen's r*; R. Butler, Saddlepoint
Approximations, 2007, section 2.1). It is exact to some percent of alpha, needs no seed, and serves any alpha.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

_LEAST_SHIFT = 1e-18
_STRIDE = 4.0
_STEPS = 100
_NEAR_ENOUGH = 1e-9
_NEAR_ZERO = 1e-13


@dataclass(frozen=True)
class BoundedMean:
    """A sample by its different values and their counts, with the worst and best value of an example not seen."""

    values: Array
    counts: Array
    worst: float
    best: float

    @staticmethod
    def of(sample: Array, worst: float, best: float) -> "BoundedMean":
        """From the sample itself, shape (examples,); a worst value inside the sample's range gives way to its end."""
        values, counts = np.unique(sample, return_counts=True)
        return BoundedMean(values, counts.astype(np.float64), min(worst, values[0]), max(best, values[-1]))

    def low(self, alpha: float, copies: float = 1.0) -> float:
        """The lower bound with a one-sided error of `alpha`, as if the sample had come `copies` times."""
        return _lower(np.append(self.values, self.worst), np.append(copies * self.counts, 1.0), alpha)

    def high(self, alpha: float, copies: float = 1.0) -> float:
        """The upper bound with a one-sided error of `alpha`, as if the sample had come `copies` times."""
        return -_lower(-np.append(self.values, self.best), np.append(copies * self.counts, 1.0), alpha)


def _lower(values: Array, counts: Array, alpha: float) -> float:
    """The `alpha` quantile, alpha below one half, of the mean of the values under Dirichlet weights."""
    least, span = float(values.min()), float(np.ptp(values))
    if span <= 1e-15 * max(1.0, abs(least)):
        return least
    heights, wanted = (values - least) / span, float(special.ndtri(alpha))

    def excess(shift: float) -> float:
        """How far the inverse of the normal quantile lies from the wanted one: nearly a line in the shift."""
        return 1 / wanted - 1 / min(_tilted(heights, counts, shift)[1], -_NEAR_ZERO)

    n = float(counts.sum())
    mean = float(counts @ heights) / n
    spread = math.sqrt(float(counts @ np.square(heights - mean)))
    return least + span * _tilted(heights, counts, _root(excess, spread / -wanted))[0]


def _tilted(heights: Array, counts: Array, shift: float) -> tuple[float, float]:
    """The mean t under weights in proportion to 1 / (height + shift), and the normal quantile of P(mean <= t).

    The mean falls from the plain mean to 0 with the shift. With e independent exponentials, P(sum e (h - t) <= 0) has the
    cumulant function K(s) = -sum log(1 - s (h - t)); its saddlepoint is s = -1 / (shift + t), so that every t comes with its
    saddlepoint and none has to be searched.
    """
    inverse = 1 / (heights + shift)
    weights = counts * inverse
    n = float(counts.sum())
    scale = n / float(weights.sum())
    exponent = -n * math.log(scale) - float(counts @ np.log(inverse))
    curvature = scale * scale * float(weights @ inverse) - n
    if min(exponent, curvature) < _NEAR_ZERO * n:
        return scale - shift, 0.0
    root, standard = -math.sqrt(2 * exponent), -math.sqrt(curvature)
    return scale - shift, root + math.log(standard / root) / root


def _root(increasing: Callable[[float], float], start: float) -> float:
    """Where an increasing function of a positive number crosses 0, looked for from `start` both ways."""
    low = high = start
    while increasing(low) > 0 and low > _LEAST_SHIFT:
        low /= _STRIDE
    while increasing(high) < 0:
        high *= _STRIDE
    return false_position(increasing, low, high)


def false_position(increasing: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function crosses 0 between two places, by false position (Illinois); an end where it does not."""
    at_low, at_high = increasing(low), increasing(high)
    if at_low >= 0 or at_high <= 0:
        return low if at_low >= 0 else high
    side = 0
    for _ in range(_STEPS):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = increasing(middle)
        if abs(at_middle) < _NEAR_ENOUGH:
            return middle
        if at_middle > 0:
            high, at_high = middle, at_middle
            at_low /= 2 if side > 0 else 1
        else:
            low, at_low = middle, at_middle
            at_high /= 2 if side < 0 else 1
        side = 1 if at_middle > 0 else -1
    return low
