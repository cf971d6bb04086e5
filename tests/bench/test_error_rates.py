"""The promised error rates, by the simulation of bench/scripts/error_rates.py at a small size, with the truth at the limit."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from weighbridge.bench.evidence import ReplicateRatios
from weighbridge.bench.judge import verdict_of
from weighbridge.bench.looks import LOOKS, looks_within, per_look_error
from weighbridge.bench.rules import Rule

NOISE = [
    "independent",
    "autocorrelated 0.5",
    "autocorrelated 0.8",
    "drifting",
    "heavy-tailed",
    "bimodal",
    "periodic",
]


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The simulation script as a module."""
    return load_script("error_rates")


def check(script: ModuleType, noise: str, trials: int) -> None:
    found = script.rates(script.PROCEDURES[0], noise, trials)
    tolerance = 3 * np.sqrt(script.ERROR * (1 - script.ERROR) / trials)
    assert found.wrong_pass <= script.ERROR + tolerance
    assert found.wrong_fail <= script.ERROR + tolerance


@pytest.mark.parametrize("noise", NOISE)
def test_the_error_rate_holds_at_the_limit(script: ModuleType, noise: str) -> None:
    """With the truth exactly at the limit, wrong passes and wrong fails stay at their 1 %, all looks together."""
    check(script, noise, 1000)


@pytest.mark.soak
@pytest.mark.parametrize("noise", NOISE)
def test_the_error_rate_holds_over_many_runs(script: ModuleType, noise: str) -> None:
    """The same over 20,000 runs a noise model."""
    check(script, noise, 20_000)


@pytest.mark.parametrize("noise", ["independent", "autocorrelated 0.8", "drifting", "heavy-tailed"])
def test_a_clear_truth_is_decided(script: ModuleType, noise: str) -> None:
    """A truth 2 % inside passes and 2 % outside fails in at least 97 runs of a hundred, with instance effects of 0.5 %."""
    found = script.rates(script.PROCEDURES[0], noise, 300)
    assert found.passed_inside >= 0.97
    assert found.failed_outside >= 0.97


def test_one_process_set_is_no_evidence_however_many_rounds(script: ModuleType) -> None:
    """A t interval over rounds, which takes them for independent, is wrong more than ten times as often as promised."""
    naive = next(each for each in script.PROCEDURES if each.name == "sequential t over rounds")
    found = script.rates(naive, "independent", 300)
    assert min(found.wrong_pass, found.wrong_fail) > 10 * script.ERROR


def test_the_simulated_procedure_is_the_judges_own(script: ModuleType) -> None:
    """On the same series, the simulation's verdicts are those of the evidence class and the judge, look by look."""
    rule = Rule("latency_p50", "ratio", script.LIMIT, maximum=True)
    times = script.simulate("heavy-tailed", 1.045, 15, 40, replicates=LOOKS[-1])
    candidate, baseline = np.exp(np.median(times[..., :2], axis=2)).transpose(2, 0, 1)[::-1]
    both = np.concatenate([times[..., 1] - times[..., 0], times[..., 1] - times[..., 2]], axis=2)
    ratios = np.exp(np.median(both, axis=2))
    expected = script.PROCEDURES[0].decide(times).verdicts
    names = {1: "pass", -1: "fail", 0: "inconclusive"}
    for *series, verdict in zip(candidate, baseline, ratios, expected, strict=True):
        found = "inconclusive"
        for look in LOOKS:
            above, below, relative = (tuple(each[:look]) for each in series)
            evidence = ReplicateRatios("a", "latency_p50", {}, above, below, relative=relative)
            interval = evidence.interval("ratio", script.ERROR, script.ERROR)
            assert interval is not None
            found = verdict_of(rule, interval)
            if found != "inconclusive":
                break
        assert found == names[int(verdict)]


def test_the_error_of_a_look_lies_between_bonferronis_and_the_whole() -> None:
    """However many looks are planned, each has at least four fifths of Bonferroni's share, and one look has four fifths of all."""
    for error in (0.1, 0.01, 0.003, 0.001, 1e-5, 1e-8):
        assert per_look_error(error, 4) == pytest.approx(0.8 * error)
        for planned in LOOKS:
            looks = len(looks_within(planned))
            assert 0.8 * error / looks <= per_look_error(error, planned) * 1.01 <= error


@pytest.mark.parametrize(("replicates", "looks"), [(3, ()), (4, (4,)), (7, (4, 6)), (24, (4, 6, 8, 12, 16, 24))])
def test_looks_are_those_that_a_plan_reaches(replicates: int, looks: tuple[int, ...]) -> None:
    """Seven replicates reach the looks after 4 and 6; three reach none."""
    assert looks_within(replicates) == looks
