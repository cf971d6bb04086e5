"""Quick timing finds a known ratio on a synthetic clock, and promises no more than its rounds can bear."""

import numpy as np
import pytest
from scipy import stats
from weighbridge.optimize.quick_timing import Ratio, median_interval, time_ratio


class Clock:
    """Time that passes only when a function says so."""

    def __init__(self) -> None:
        self.now = 0
        self.random = np.random.default_rng(0)

    def __call__(self) -> int:
        return self.now

    def takes(self, milliseconds: float, noise: float = 0.0) -> None:
        self.now += int(1e6 * milliseconds * (1 + noise * self.random.standard_normal()))


@pytest.mark.parametrize(("before", "after"), [(1.0, 0.5), (2.0, 3.0), (200.0, 100.0)])
def test_a_known_ratio_is_found(before: float, after: float) -> None:
    """Without noise the ratio and both ends of its interval are exactly candidate over baseline."""
    clock = Clock()
    ratio = time_ratio(lambda: clock.takes(before), lambda: clock.takes(after), clock)
    assert ratio == Ratio(*[pytest.approx(after / before)] * 3)


def test_noise_widens_the_interval_around_the_truth() -> None:
    """With a tenth of noise a call the interval holds the true 0.9, and is not a point."""
    clock = Clock()
    ratio = time_ratio(lambda: clock.takes(10, 0.1), lambda: clock.takes(9, 0.1), clock)
    assert ratio.low < 0.9 < ratio.high
    assert 0.005 < ratio.high - ratio.low < 0.2


def test_a_drifting_machine_changes_no_ratio() -> None:
    """Where every call takes longer than the one before it, equal functions stay equal: their order is drawn each round."""
    clock = Clock()

    def drifting() -> None:
        clock.takes(1 + clock.now / 1e11)

    ratio = time_ratio(drifting, drifting, clock)
    assert ratio.low < 1 < ratio.high
    assert ratio.value == pytest.approx(1, abs=0.01)


def test_slow_calls_are_few() -> None:
    """Calls of 100 ms: three of each to find that out, then at least one timed and one settling call of each a round."""
    clock, calls = Clock(), []

    def slow() -> None:
        calls.append(1)
        clock.takes(100)

    time_ratio(slow, slow, clock)
    assert len(calls) == 2 * (1 + 3) + 2 * 24 * (1 + 1)


@pytest.mark.parametrize("count", [8, 9, 24, 25])
def test_the_interval_is_that_of_order_statistics(count: int) -> None:
    """The ends agree with scipy's distribution-free interval of the median, at 99 %."""
    values = list(np.random.default_rng(count).standard_normal(count))
    expected = stats.quantile_test(values, p=0.5).confidence_interval(0.99)
    found = median_interval(values)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.value == pytest.approx(float(np.median(values)))


def test_too_few_rounds_say_nothing() -> None:
    """Seven values have no 99 % interval of their median: 2 / 2**7 is above 1 %."""
    assert median_interval([1.0] * 7) == Ratio(1.0, 0.0, float("inf"))
    assert median_interval([1.0] * 8) == Ratio(1.0, 1.0, 1.0)
