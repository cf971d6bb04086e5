"""The bound of a mean: against exact bounds of proportions, against drawn Dirichlet weights, and in its rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.bounded_mean import BoundedMean
from weighbridge.bench.stats import proportion_bounds

ALPHAS = [0.2, 0.01, 1e-4]


def of_proportion(hits: int, n: int) -> BoundedMean:
    return BoundedMean.of(np.repeat([1.0, 0.0], [hits, n - hits]), worst=0, best=1)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 50), (50, 100), (1990, 2000), (50, 50)])
def test_of_zeros_and_ones_it_is_clopper_and_pearsons(hits: int, n: int, alpha: float) -> None:
    """For a proportion the Dirichlet quantile is the exact binomial bound; the saddlepoint meets it within 2 % of its distance."""
    mean = of_proportion(hits, n)
    low, high = proportion_bounds(hits, n, alpha, alpha)
    assert mean.low(alpha) == pytest.approx(low, abs=max(0.02 * (hits / n - low), 1e-12))
    assert mean.high(alpha) == pytest.approx(high, abs=max(0.02 * (high - hits / n), 1e-12))


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_it_is_the_quantile_of_drawn_dirichlet_weights(alpha: float) -> None:
    """The bound of a skewed sample lies where the drawn weighted means of the sample and its worst value have it."""
    random = np.random.default_rng(5)
    sample = random.standard_exponential(60)
    weights = random.standard_exponential((100_000, 61))
    drawn = weights @ np.append(sample, -2.0) / weights.sum(axis=1)
    share = float((drawn <= BoundedMean.of(sample, worst=-2, best=9).low(alpha)).mean())
    assert share == pytest.approx(alpha, rel=0.08)


@given(
    sample=st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    alpha=st.floats(1e-6, 0.05),
)
def test_bounds_enclose_the_mean_and_keep_within_the_extremes(sample: list[float], alpha: float) -> None:
    """Whatever the sample: worst <= low <= mean <= high <= best."""
    mean = BoundedMean.of(np.array(sample), worst=-1.5, best=1.5)
    slack = 1e-9
    assert -1.5 <= mean.low(alpha) <= np.mean(sample) + slack
    assert np.mean(sample) - slack <= mean.high(alpha) <= 1.5


def test_equal_values_leave_room_for_one_that_was_not_seen() -> None:
    """Where nothing differs the bound is ln(1 / alpha) / n below; where no example could be worse, it is the value."""
    assert BoundedMean.of(np.zeros(2000), worst=-1, best=1).low(0.01) == pytest.approx(-np.log(100) / 2000, rel=0.02)
    assert BoundedMean.of(np.zeros(100), worst=-1, best=1).low(0.01) == pytest.approx(-np.log(100) / 100, rel=0.05)
    assert BoundedMean.of(np.zeros(9), worst=0, best=0).low(0.01) == 0


def test_copies_are_as_good_as_the_examples_themselves() -> None:
    """The bound of a sample counted three times is that of the sample repeated three times."""
    sample = np.array([0.1, 0.4, -0.3, 0.4])
    mean, thrice = (BoundedMean.of(np.tile(sample, times), worst=-1, best=1) for times in (1, 3))
    assert mean.low(0.01, copies=3) == pytest.approx(thrice.low(0.01))
    assert mean.high(0.01, copies=3) == pytest.approx(thrice.high(0.01))


@pytest.mark.parametrize("n", [50, 300])
def test_the_stated_error_holds_for_rare_large_losses(n: int) -> None:
    """Values that are 0 but for one in fifty, 1 of unlike sizes: both bounds are beyond the true mean at most as often as stated."""
    random = np.random.default_rng(n)
    truth, alpha, trials = -0.02 * 0.5, 0.02, 1500
    wrong = np.zeros(2)
    for _ in range(trials):
        sample = -np.where(random.random(n) < 0.02, random.random(n), 0.0)
        mean = BoundedMean.of(sample, worst=-1, best=1)
        wrong += [mean.low(alpha) > truth, mean.high(alpha) < truth]
    assert (wrong / trials <= alpha + 3 * np.sqrt(alpha / trials)).all()
