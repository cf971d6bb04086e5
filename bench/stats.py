"""Intervals with a stated one-sided error on each side, from numpy and scipy.special alone."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

_BISECTIONS = 60
_MEDIAN = 0.5
_MOST_LOG = 69.0
"""e to this power is 1e30, beyond any quantity of a run."""


def bounded_exp(log: float) -> float:
    """The power of e, held between 1e-30 and 1e30: an interval on a logarithmic scale may be wider than numbers are."""
    return math.exp(max(-_MOST_LOG, min(_MOST_LOG, log)))


def t_quantile(probability: float, degrees: float) -> float:
    """The quantile of Student's t distribution; negative for probabilities below one half."""
    return float(special.stdtrit(degrees, probability))


def t_bounds(values: NDArray[np.float64], alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """Student's t bounds of the mean of independent values; needs at least two of them.

    The true mean lies below the lower bound with probability at most `alpha_low`, above the upper with `alpha_high`.
    """
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    mean = float(values.mean())
    return mean + error * t_quantile(alpha_low, n - 1), mean - error * t_quantile(alpha_high, n - 1)


def welch_bounds(
    first: NDArray[np.float64], second: NDArray[np.float64], alpha_low: float, alpha_high: float
) -> tuple[float, float]:
    """Welch's t bounds of the difference of two means, first - second, of independent values; at least two of each.

    Degrees of freedom by Welch and Satterthwaite; without any spread both bounds are the difference.
    """
    variances = [float(values.var(ddof=1)) / len(values) for values in (first, second)]
    total = sum(variances)
    difference = float(first.mean() - second.mean())
    if total == 0:
        return difference, difference
    parts = (part**2 / (len(values) - 1) for part, values in zip(variances, (first, second), strict=True))
    degrees = total**2 / sum(parts)
    error = math.sqrt(total)
    return difference + error * t_quantile(alpha_low, degrees), difference - error * t_quantile(alpha_high, degrees)


@cache
def least_n(quantile: float, confidence: float = 0.99) -> int:
    """The least sample size for a quantile: at least two samples lie above it with that confidence.

    Exact binomial rule: the smallest n with 1 - q**n - n q**(n-1) (1-q) >= confidence (p90 64, p95 130, p99 662,
    p99.9 6636 at 99 %). A median needs no rule: 1.
    """
    if quantile <= _MEDIAN:
        return 1
    n = 2
    while 1 - quantile**n - n * quantile ** (n - 1) * (1 - quantile) < confidence:
        n += 1
    return n


def quantile_interval(samples: NDArray[np.float64], quantile: float, confidence: float) -> tuple[float, float]:
    """Order statistics that enclose a quantile of independent samples with at least that confidence.

    Ranks from the exact binomial distribution; where the samples are too few the smallest or the largest stands in.
    """
    ordered = np.sort(samples)
    n = len(ordered)
    below = special.bdtr(np.arange(n), n, quantile)
    tail = (1 - confidence) / 2
    low = int(np.searchsorted(below, tail, side="right")) - 1
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return float(ordered[max(low, 0)]), float(ordered[min(high, n - 1)])


def proportion_interval(hits: int, n: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a proportion."""
    return proportion_bounds(hits, n, (1 - confidence) / 2, (1 - confidence) / 2)


def proportion_bounds(hits: float, n: float, alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """Clopper and Pearson's exact bounds of a proportion, each with its own one-sided error; counts may be scaled."""
    low = float(special.betaincinv(hits, n - hits + 1, alpha_low)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - alpha_high)) if hits < n else 1.0
    return low, high


def tango_bounds(gained: float, lost: float, n: float, alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """Tango's score bounds of the difference of two paired proportions, (gained - lost) / n.

    `gained` pairs are right only for the candidate, `lost` only for the baseline. T. Tango, Statistics in Medicine 17
    (1998) 891-908: the bounds are the differences at which the score statistic equals the normal quantile; it decreases
    in the difference, so each is found by bisection in [-1, 1].
    """
    estimate = (gained - lost) / n

    def statistic(difference: float) -> float:
        return _tango_statistic(gained, lost, n, difference)

    low = _root(lambda d: statistic(d) + float(special.ndtri(alpha_low)), -1.0, estimate)
    high = _root(lambda d: statistic(d) - float(special.ndtri(alpha_high)), estimate, 1.0)
    return low, high


def _tango_statistic(gained: float, lost: float, n: float, difference: float) -> float:
    """Tango's z for the hypothesis that the true difference is `difference`; the nuisance parameter is its MLE."""
    linear = -gained - lost + (2 * n - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    lost_share = (root - linear) / (4 * n)
    variance = n * (2 * lost_share + difference * (1 - difference))
    score = gained - lost - n * difference
    if variance <= 0:
        return 0.0 if score == 0 else math.copysign(math.inf, score)
    return score / math.sqrt(variance)


def _root(decreasing: Callable[[float], float], low: float, high: float) -> float:
    """The place where a decreasing function changes sign in [low, high]; an end where it does not."""
    if decreasing(low) <= 0:
        return low
    if decreasing(high) >= 0:
        return high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if decreasing(middle) > 0 else (low, middle)
    return (low + high) / 2


def examples_for_difference(limit: float, changed_share: float, alpha: float, power: float = 0.8) -> int:
    """How many paired examples show that a difference of 0 is above -`limit`, by the normal approximation.

    n = (z_alpha + z_power)**2 * changed / limit**2, where `changed_share` is the share of examples that only one of the two
    answers rightly (Connor, Biometrics 43 (1987) 207-211, at a true difference of 0).
    """
    z = float(special.ndtri(1 - alpha) + special.ndtri(power))
    return math.ceil(z * z * changed_share / (limit * limit))
