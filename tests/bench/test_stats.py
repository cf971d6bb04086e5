"""Intervals against independent references: scipy, exact enumeration, the published table."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.stats import (
    bounded_exp,
    examples_for_difference,
    least_n,
    proportion_bounds,
    proportion_interval,
    quantile_interval,
    t_bounds,
    t_quantile,
    tango_bounds,
)


def test_least_n_is_the_exact_binomial_rule() -> None:
    """p90, p95, p99 and p99.9 need 64, 130, 662 and 6636 samples at 99 %."""
    assert [least_n(q) for q in (0.9, 0.95, 0.99, 0.999)] == [64, 130, 662, 6636]


@pytest.mark.parametrize("quantile", [0.9, 0.95, 0.99])
def test_least_n_leaves_two_samples_above_the_quantile(quantile: float) -> None:
    """At the least n two samples lie above the quantile with 99 %, by scipy's binomial; one sample fewer is too few."""
    n = least_n(quantile)
    assert scipy.stats.binom.sf(1, n, 1 - quantile) >= 0.99
    assert scipy.stats.binom.sf(1, n - 1, 1 - quantile) < 0.99


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=12).filter(lambda x: np.std(x) > 1e-6))
def test_t_bounds_are_scipys(values: list[float]) -> None:
    """With equal errors the bounds are scipy's t interval."""
    low, high = t_bounds(np.array(values), 0.01, 0.01)
    expected = scipy.stats.t.interval(0.98, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_t_quantile_is_scipys() -> None:
    """The quantile far out in the tail, where looks and splits take it, is scipy's."""
    assert t_quantile(1e-5, 3) == pytest.approx(scipy.stats.t.ppf(1e-5, 3))


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_is_scipys(n: int, data: st.DataObject) -> None:
    """The exact interval of a proportion is scipy's, none and all hits included."""
    hits = data.draw(st.integers(0, n))
    expected = scipy.stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert proportion_interval(hits, n, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_each_side_of_a_proportion_has_its_own_error() -> None:
    """A smaller error on one side moves that bound only."""
    low, high = proportion_bounds(30, 100, 0.01, 0.01)
    lower, same = proportion_bounds(30, 100, 0.0001, 0.01)
    assert lower < low
    assert same == high


def constrained_score(gained: int, lost: int, n: int, difference: float) -> float:
    """The score statistic with its nuisance parameter found by a naive search for the highest likelihood."""
    kept = n - gained - lost
    low, high = max(0.0, -difference), (1 - difference) / 2
    losses = np.linspace(low + 1e-9, high - 1e-9, 200_001)
    likelihood = (
        scipy.special.xlogy(gained, losses + difference)
        + scipy.special.xlogy(lost, losses)
        + scipy.special.xlogy(kept, np.maximum(1 - 2 * losses - difference, 1e-300))
    )
    best = losses[np.argmax(likelihood)]
    return float((gained - lost - n * difference) / math.sqrt(n * (2 * best + difference * (1 - difference))))


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (1, 0, 30), (7, 25, 200)])
def test_tango_bounds_are_where_the_score_statistic_is_the_normal_quantile(gained: int, lost: int, n: int) -> None:
    """At both bounds the score statistic, by a naive search over its nuisance parameter, is 1.96 and -1.96."""
    low, high = tango_bounds(gained, lost, n, 0.025, 0.025)
    assert constrained_score(gained, lost, n, low) == pytest.approx(1.95996, abs=2e-3)
    assert constrained_score(gained, lost, n, high) == pytest.approx(-1.95996, abs=2e-3)


def test_tango_without_a_change_is_z_squared_over_n_plus_z_squared() -> None:
    """With no changed answer in 30 the bounds are 3.8415 / 33.8415 on both sides."""
    assert tango_bounds(0, 0, 30, 0.025, 0.025) == pytest.approx((-0.113514, 0.113514), abs=1e-5)


@given(st.integers(1, 200), st.data())
def test_tango_is_antisymmetric_and_holds_its_estimate(n: int, data: st.DataObject) -> None:
    """Swapping the two variants mirrors the interval, and the estimate lies inside it."""
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    low, high = tango_bounds(gained, lost, n, 0.01, 0.01)
    mirrored = tango_bounds(lost, gained, n, 0.01, 0.01)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-6)
    assert -1 <= low <= (gained - lost) / n <= high <= 1


@pytest.mark.parametrize("difference", [-0.1, 0.0, 0.05])
def test_tango_covers_by_exact_enumeration(difference: float) -> None:
    """Over every outcome of 40 pairs the lower bound exceeds the truth with a probability near its error of 2.5 %."""
    n, discordant = 40, 0.2
    p_gain, p_loss = (discordant + difference) / 2, (discordant - difference) / 2
    missed = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            probability = scipy.stats.multinomial.pmf(
                [gained, lost, n - gained - lost], n, [p_gain, p_loss, 1 - discordant]
            )
            if probability > 1e-12 and tango_bounds(gained, lost, n, 0.025, 0.025)[0] > difference:
                missed += probability
    assert missed <= 0.035


def test_quantile_interval_covers_the_median() -> None:
    """Order statistics around the median of 101 ordered samples enclose it at the binomial ranks."""
    low, high = quantile_interval(np.arange(101.0), 0.5, 0.95)
    assert (low, high) == (40.0, 60.0)


def test_quantile_interval_holds_its_confidence() -> None:
    """In 2000 draws of 200 exponentials the p95 lies inside at least 95 % of the intervals, less three standard errors."""
    random = np.random.default_rng(0)
    truth = -math.log(0.05)
    inside = 0
    for _ in range(2000):
        low, high = quantile_interval(random.exponential(size=200), 0.95, 0.95)
        inside += low <= truth <= high
    assert inside / 2000 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_examples_for_difference_by_hand() -> None:
    """At error 2.5 %, power 80 %, 2 % changed answers and a margin of 1 point: (1.960 + 0.842)^2 x 0.02 / 0.0001 = 1570."""
    assert examples_for_difference(0.01, 0.02, 0.025) == pytest.approx(1570, abs=1)


def test_a_power_of_e_stays_within_what_can_be_written() -> None:
    """Within 1e-30 and 1e30 it is the library's own; beyond, where it would overflow or vanish, it is the bound."""
    assert [bounded_exp(log) for log in (-3.0, 0.0, 2.5)] == [math.exp(log) for log in (-3.0, 0.0, 2.5)]
    assert bounded_exp(1e6) == pytest.approx(1e30, rel=0.1)
    assert bounded_exp(-1e6) == pytest.approx(1e-30, rel=0.1)
