"""The simulation behind docs/quality.md: that the bootstrap it compares with computes the same metrics, and that it counts right."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The simulation script as a module."""
    return load_script("quality_rates")


def test_weighted_metrics_are_those_of_repeated_examples(script: ModuleType) -> None:
    """An example of weight 3 counts as three of it: every resampled metric equals the product's on the examples themselves."""
    sample = script._population("p", (0.5, 0.3, 0.1, 0.1), (0.1,) * 4).take(np.arange(80))
    weights = np.random.default_rng(0).multinomial(80, np.full(80, 1 / 80), 3).astype(float)
    found = script.resampled(sample.labels, sample.candidate.astype(float), weights)
    for row, counts in enumerate(weights):
        repeated = sample.take(np.repeat(np.arange(80), counts.astype(int)))
        for name, piece in script.evidence(repeated).items():
            assert found[name][row] == pytest.approx(piece.candidate.value, abs=1e-6), name


def test_a_population_is_what_its_name_says(script: ModuleType) -> None:
    """Answers change at the stated share, in the stated classes, and the calibrated baseline is calibrated."""
    made = {each.name: each for each in script.populations()}
    assert len(made) == 6
    for name, share in (("balanced, 1% changed", 0.01), ("unbalanced, 5% changed", 0.05)):
        changed = made[name].baseline.argmax(axis=1) != made[name].candidate.argmax(axis=1)
        assert changed.mean() == pytest.approx(share, abs=0.01)
    rare = made["unbalanced, rare classes changed"]
    changed = rare.baseline.argmax(axis=1) != rare.candidate.argmax(axis=1)
    assert changed[rare.labels == 3].mean() > 0.15
    assert changed[rare.labels == 0].mean() < 0.01
    calibration = script.evidence(made["balanced, 5% changed, calibrated"])["expected_calibration_error"]
    assert calibration.baseline.value < 0.005
    assert calibration.candidate.value > 0.03


def test_wrong_verdicts_are_counted_by_the_metrics_direction(script: ModuleType) -> None:
    """An interval above the truth passes a metric of which more is better and fails one of which less is."""
    rates = script.Rates.none()
    for name in ("f1_macro", "log_loss"):
        rates.count(name, 0.01, (0.1, 0.2), 0.0)
    assert (rates.passes["f1_macro", 0.01], rates.fails["f1_macro", 0.01]) == (1, 0)
    assert (rates.passes["log_loss", 0.01], rates.fails["log_loss", 0.01]) == (0, 1)
