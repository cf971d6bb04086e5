"""The noise floor: known scatter in, known floor, slowdown found and false alarms out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from weighbridge.bench import noise
from weighbridge.bench.building import Built
from weighbridge.bench.checks import Checked
from weighbridge.bench.config import VariantConfig
from weighbridge.bench.looks import per_look_error
from weighbridge.bench.noise import Purchase, Twins, bought, half_width, noise_of, smallest_shift, twins_of
from weighbridge.bench.plan import ShapePlan, make_plan
from weighbridge.bench.reporter import Silent
from weighbridge.bench.samples import CONTROL, Recorder, Replicate, key_of
from weighbridge.bench.session import Weighed
from weighbridge.optimize.errors import UnavailableError, WorkerError
from weighbridge.optimize.files import holding

SHAPE = {"batch_size": 64, "threads": 1}
ROUNDS, TIMED = 15, 10


def twins(log_ratios: list[float], rounds: int = ROUNDS) -> list[Twins]:
    """Replicates of steady calls: 2 ms the model, 2 ms times the given ratio its twin."""
    steady = np.full((rounds, TIMED), 2.0)
    return [Twins(steady, steady * np.exp(each)) for each in log_ratios]


def test_calls_are_sorted_into_rounds() -> None:
    """The calls of a replicate become a row a planned round, the model's and the twin's apart; a round beyond is left out."""
    shape = ShapePlan(SHAPE, settle=1, timed=2, rounds=3, round_seconds=0.1)
    recorder = Recorder(1)
    for round_ in range(4):
        for variant, base in (("probe", 2.0 * round_), (CONTROL, 10 + 2.0 * round_)):
            calls = [[base], [base + 1]]
            recorder.add(calls, ["timed"] * 2, variant=variant, shape=key_of(SHAPE), round_=round_, visit=0)
    found = twins_of(Replicate.of(recorder.columns), shape)
    assert found.model.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.twin.tolist() == [[10, 11], [12, 13], [14, 15]]


def test_the_scatter_of_replicates_gives_floor_and_slowdown() -> None:
    """Log ratios of known spread give scipy's t quantile times spread / sqrt(n), for p50, mean and p95 alike."""
    logs = [0.01, -0.01, 0.02, -0.02, 0.0]
    spread = float(np.std(logs, ddof=1))
    found = noise_of(twins(logs), [Purchase(5.0, 4, ROUNDS)], seconds=3.0)
    (resolution,) = found.resolutions
    assert resolution.spread == pytest.approx(dict.fromkeys(noise.STATISTICS, spread))
    quantile = stats.t.ppf(1 - per_look_error(0.01, 4), 3)
    assert resolution.floor["latency_p50"] == pytest.approx(np.exp(quantile * spread / 2) - 1)
    assert resolution.smallest["latency_mean"] > resolution.floor["latency_mean"]
    assert (found.call_ms, found.replicates, found.seconds) == (2.0, 5, 3.0)
    assert found.ratio == pytest.approx(1.0)


@pytest.mark.parametrize("replicates", [4, 6, 8, 12, 16, 24])
def test_the_smallest_slowdown_is_found_with_the_stated_power(replicates: int) -> None:
    """In 40,000 simulated runs the smallest slowdown's lower bound lies above 1 in 95 % of them, give or take chance."""
    spread = 0.004
    shift = smallest_shift(spread, replicates)
    runs = np.random.default_rng(replicates).normal(shift, spread, (40_000, replicates))
    error = runs.std(axis=1, ddof=1) / np.sqrt(replicates)
    lower = runs.mean(axis=1) + error * stats.t.ppf(per_look_error(0.01, replicates), replicates - 1)
    assert (lower > 0).mean() == pytest.approx(0.95, abs=0.005)


def test_more_replicates_find_less() -> None:
    """Floor and smallest slowdown shrink with replicates, and scale with the spread."""
    for compute in (half_width, smallest_shift):
        values = [compute(0.01, n) for n in (4, 8, 16, 24)]
        assert values == sorted(values, reverse=True)
        assert compute(0.02, 8) == pytest.approx(2 * compute(0.01, 8))


def test_time_is_priced_as_a_run_of_one_candidate_would_be() -> None:
    """What a time buys are the replicates and rounds of the plan of three processes: baseline, twin, candidate."""
    for seconds in noise.TIMES:
        plan = make_plan([SHAPE], {key_of(SHAPE): [1.5, 1.5, 1.5]}, max_seconds=seconds)
        assert bought(seconds, SHAPE, 1.5) == Purchase(seconds, plan.replicates, plan.shapes[0].rounds)


def test_fewer_rounds_are_cut_from_the_samples() -> None:
    """A time that buys 7 rounds is judged by the first 7: later rounds, ten times as slow for the twin, do not count."""
    late = [Twins(each.model, np.vstack([each.twin[:7], 10 * each.twin[7:]])) for each in twins([0.01, -0.01])]
    few, many = noise_of(late, [Purchase(5, 4, 7), Purchase(15, 4, ROUNDS)], 1.0).resolutions
    assert few.spread["latency_mean"] == pytest.approx(np.std([0.01, -0.01], ddof=1))
    assert many.spread["latency_mean"] == pytest.approx(few.spread["latency_mean"])
    assert noise.log_ratios(late, "latency_mean", 7) == pytest.approx([0.01, -0.01])
    assert noise.log_ratios(late, "latency_mean", ROUNDS).min() > 1


def test_a_percentile_with_too_few_calls_has_no_floor() -> None:
    """p95 needs 130 calls: 12 rounds of ten have none, 13 rounds have it."""
    few, enough = noise_of(twins([0.0, 0.1]), [Purchase(5, 4, 12), Purchase(60, 4, 13)], 1.0).resolutions
    assert set(few.floor) == set(few.smallest) == {"latency_p50", "latency_mean"}
    assert set(enough.floor) == set(noise.STATISTICS)


def test_false_alarms_of_a_rule_on_means_are_counted() -> None:
    """Of four replicates one is off by 2 % in turns, and one that doubles its pace halfway is off in sequence alone."""
    quiet, off = twins([0.0, np.log(1.02)])
    drifting = np.vstack([np.full((7, TIMED), 2.0), np.full((8, TIMED), 1.0)])
    found = noise_of([quiet, quiet, off, Twins(drifting, drifting)], [], 1.0).false_alarms
    assert [(each.threshold, each.in_turns, each.in_sequence) for each in found] == [
        (0.01, 0.25, 0.5),
        (0.03, 0.0, 0.25),
        (0.05, 0.0, 0.25),
    ]


def built(**more: Any) -> list[Built]:
    return [Built(VariantConfig(name="probe", artifact="probe.onnx"), **more)]


def test_a_machine_that_cannot_run_the_model_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that could not be adopted ends the measurement with the reason."""
    monkeypatch.setattr(noise, "build_all", lambda *_: built(status="unavailable", reason="it is not installed"))
    with pytest.raises(UnavailableError, match="the noise floor is measured with ONNX Runtime: it is not installed"):
        noise.measure(5.0, Silent())


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("gave NaN", "that the noise floor is measured with failed: gave NaN"),
        ("", "that the noise floor is measured with failed while it was weighed: killed"),
    ],
)
def test_a_model_that_fails_says_why(
    failure: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure at the check, and one while it is weighed, are each told with their reason."""

    def check(*parts: Any, **_: Any) -> list[Checked]:
        return [Checked("probe", {key_of(parts[2][0]): 1.0}, failure=failure)]

    monkeypatch.setattr(noise, "build_all", lambda *_: built(status="ok", folder=tmp_path))
    monkeypatch.setattr(noise, "check_all", check)
    monkeypatch.setattr(noise, "weigh", lambda *_: Weighed(failed={CONTROL: "while it was weighed: killed"}))
    with pytest.raises(WorkerError, match=reason):
        noise.measure(5.0, Silent())


def test_the_model_stays_in_the_cache_while_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its check on nobody else can take the model's artifact for themselves, as who clears the cache would."""

    def check(*_: Any, **__: Any) -> list[Checked]:
        with pytest.raises(BlockingIOError), holding(tmp_path):
            pass
        return [Checked("probe", {}, failure="it was in use")]

    monkeypatch.setattr(noise, "build_all", lambda *_: built(status="ok", folder=tmp_path))
    monkeypatch.setattr(noise, "check_all", check)
    with pytest.raises(WorkerError, match="failed: it was in use"):
        noise.measure(5.0, Silent())
