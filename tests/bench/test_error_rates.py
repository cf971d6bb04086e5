"""The promised error rates, by simulation through the judge's own code, with the truth at the limit."""

from collections import Counter

import numpy as np
import pytest
from weighbridge.bench.evidence import LOOKS, ReplicateRatios
from weighbridge.bench.judge import verdict_of
from weighbridge.bench.rules import Rule

RULE = Rule("latency_p50", "ratio", 1.03, maximum=True)
ERROR = 0.05
INSTANCE_SD = 0.005
ROUNDS = 30


def rounds_noise(model: str, random: np.random.Generator, count: int) -> np.ndarray:
    """The log noise of one replicate's rounds."""
    white = 0.01 * random.standard_normal(count)
    if model == "autocorrelated":
        drift = np.zeros(count)
        for index in range(1, count):
            drift[index] = 0.8 * drift[index - 1] + white[index]
        return drift
    if model == "heavy-tailed":
        return 0.005 * random.standard_t(2, count)
    return white


def replicate(model: str, truth: float, random: np.random.Generator) -> tuple[float, float, float]:
    """Medians of candidate, baseline and control over the rounds of one set of fresh processes."""
    shared = 0.02 * random.standard_normal()
    medians = []
    for level in (truth, 1.0, 1.0):
        instance = INSTANCE_SD * random.standard_normal()
        medians.append(level * float(np.exp(shared + instance + np.median(rounds_noise(model, random, ROUNDS)))))
    return medians[0], medians[1], medians[2]


def verdict(model: str, truth: float, random: np.random.Generator) -> str:
    """The verdict of one run: replicates until decided at a look, or the last one."""
    taken: list[tuple[float, float, float]] = []
    found = "inconclusive"
    for look in LOOKS:
        while len(taken) < look:
            taken.append(replicate(model, truth, random))
        candidate, baseline, control = (tuple(column) for column in zip(*taken, strict=True))
        evidence = ReplicateRatios("a", "latency_p50", {}, candidate, baseline, control)
        interval = evidence.interval("ratio", ERROR, ERROR)
        assert interval is not None
        found = verdict_of(RULE, interval)
        if found != "inconclusive":
            break
    return found


def rates(model: str, truth: float, trials: int) -> Counter[str]:
    random = np.random.default_rng(7)
    return Counter(verdict(model, truth, random) for _ in range(trials))


def check(model: str, trials: int) -> None:
    tolerance = 3 * np.sqrt(ERROR * (1 - ERROR) / trials)
    found = rates(model, 1.03, trials)
    assert found["pass"] / trials <= ERROR + tolerance, found
    assert found["fail"] / trials <= ERROR + tolerance, found


@pytest.mark.parametrize("model", ["independent", "autocorrelated", "heavy-tailed"])
def test_the_error_rate_holds_at_the_limit(model: str) -> None:
    """With the truth exactly at the limit, wrong passes and wrong fails stay at their 5 %, four looks together."""
    check(model, 300)


def test_a_clear_truth_is_decided() -> None:
    """A truth 3 % inside passes and 3 % outside fails in at least nine runs of ten, with instance effects of 0.5 %."""
    assert rates("independent", 1.00, 60)["pass"] >= 54
    assert rates("independent", 1.06, 60)["fail"] >= 54


@pytest.mark.soak
@pytest.mark.parametrize("model", ["independent", "autocorrelated", "heavy-tailed"])
def test_the_error_rate_holds_over_many_runs(model: str) -> None:
    """The same over 5,000 runs a noise model."""
    check(model, 5000)
