"""Whether one function is faster than another, told inside a build: rounds in this process, so a hint and not a verdict.

What a run promises rests on replicates of fresh processes (bench/session.py); two equal models in one process were seen to
differ by up to half a percent for as long as they live. This only decides whether a change is worth keeping.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

_ROUNDS = 24
_SECONDS = 1.0
"""What the timed calls of a comparison may take together; slow calls take longer, for no round has fewer than one of each."""
_MOST_CALLS = 30
_ERROR = 0.01


@dataclass(frozen=True)
class Ratio:
    """Candidate / baseline: the median over rounds of the ratio of the two medians, with its 99 % interval."""

    value: float
    low: float
    high: float


def time_ratio(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Ratio:
    """Time two functions in turn, in each round in random order, each after one call that is not counted."""
    functions = (baseline, candidate)
    slowest = max(statistics.median(_times(function, 3, clock_ns)) for function in functions)
    calls = int(np.clip(_SECONDS * 1e9 / (2 * _ROUNDS * max(slowest, 1)), 1, _MOST_CALLS))
    random = np.random.default_rng(0)
    ratios = []
    for _ in range(_ROUNDS):
        medians = {}
        for which in random.permutation(2):
            medians[which] = statistics.median(_times(functions[which], calls, clock_ns))
        ratios.append(medians[1] / medians[0])
    return median_interval(ratios)


def _times(function: Callable[[], object], calls: int, clock_ns: Callable[[], int]) -> list[int]:
    """Nanoseconds of each call after the first."""
    times = []
    for _ in range(1 + calls):
        started = clock_ns()
        function()
        times.append(clock_ns() - started)
    return times[1:]


def median_interval(ratios: list[float]) -> Ratio:
    """The median and its distribution-free interval between two order statistics.

    The k-th smallest of n is above the median of their distribution with probability P(Binomial(n, 1/2) <= k - 1); the
    largest k is taken for which twice that is at most 1 % (David and Nagaraja, Order Statistics, 2003, section 7.1). The
    rounds of one process are not quite independent, for which nothing is promised.
    """
    ordered = sorted(ratios)
    count = len(ordered)
    tail = next((k for k in range(count // 2, 0, -1) if 2 * special.bdtr(k - 1, count, 0.5) <= _ERROR), None)
    if tail is None:
        return Ratio(statistics.median(ordered), 0.0, float("inf"))
    return Ratio(statistics.median(ordered), ordered[tail - 1], ordered[count - tail])
