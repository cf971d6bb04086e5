"""The sustained rate: which rates are proven to hold and which refuted, by hand and by simulation."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from weighbridge.bench.deciding import JudgingPlan
from weighbridge.bench.evidence import Interval, TooFewCalls
from weighbridge.bench.evidence_of_run import speed_evidence
from weighbridge.bench.judge import VariantState, judge
from weighbridge.bench.looks import per_look_error
from weighbridge.bench.rules import Rule
from weighbridge.bench.samples import Replicate, key_of
from weighbridge.bench.sustained import RateTried, SustainedRate

PLAIN = {"batch_size": 1, "threads": 1}
OK = {"base": VariantState("ok"), "a": VariantState("ok")}
LIMIT = 20.0
NEAR = (18.0, 19.9, 19.8, 18.5)
"""Four percentiles that all hold the limit, and lie so near that they do not prove it."""
FAR = (5.0, 5.1, 5.2, 5.1)
OVER = (60.0, 61.0, 59.0, 60.0)


def sustained(
    candidate: dict[int, Sequence[float]], baseline: dict[int, Sequence[float]] | None = None, busy: float = 0.0
) -> SustainedRate:
    """Four replicates; `busy` is the share of the server's time that 1 request/s takes, where it is known."""
    ours, theirs = (
        tuple(
            RateTried(rate, tuple(latencies), (busy * rate,) * 4 if busy else ()) for rate, latencies in tried.items()
        )
        for tried in (candidate, baseline or candidate)
    )
    return SustainedRate("a", "sustained_rate", PLAIN, ours, theirs, LIMIT, planned=4)


def interval(piece: SustainedRate, kind: str = "value", alpha: float = 0.01) -> Interval:
    found = piece.interval(kind, alpha, alpha)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_replicates_that_agree_prove_nothing_near_the_limit() -> None:
    """At 50/s all four see p95 within the limit, but t's upper bound lies over it: the rate is between 20 and 50."""
    piece = sustained({20: FAR, 50: NEAR, 100: OVER})
    error = per_look_error(0.01, 4)
    upper = np.mean(NEAR) + scipy.stats.t.ppf(1 - error, 3) * scipy.stats.sem(NEAR)
    assert max(NEAR) < LIMIT < upper
    assert interval(piece) == Interval(50, 20, 50, 4)
    rule = Rule("sustained_rate", "value", 50.0, maximum=False)
    (gate,) = judge([rule], [piece], OK, baseline="base").gates
    assert gate.verdict == "inconclusive"
    assert (
        "Open are the candidate's rates from 20 to 50/s: raise measure.max_seconds, or set the rates" in gate.sentence
    )


def test_what_is_far_from_the_limit_is_decided() -> None:
    """Rates that clearly hold and clearly do not leave one rate."""
    assert interval(sustained({20: FAR, 50: FAR, 100: OVER})) == Interval(50, 50, 50, 4)
    assert interval(sustained({20: OVER, 50: OVER})) == Interval(0, 0, 0, 4)


def test_a_rate_that_is_not_proven_keeps_those_above_it_from_being_the_lower_bound() -> None:
    """The lower bound ends at the first rate that is not proven; the upper is the highest that is not refuted."""
    assert interval(sustained({20: FAR, 50: NEAR, 100: FAR})) == Interval(100, 20, 100, 4)


def test_a_rate_over_capacity_does_not_hold_whatever_its_latency() -> None:
    """At 11 ms a call 90/s keep the server busy for 0.99 of its time, 100/s for more than all of it."""
    assert interval(sustained({90: FAR, 100: FAR}, busy=0.011)) == Interval(90, 90, 90, 4)


def test_ratio_and_difference_set_both_bounds_against_each_other() -> None:
    """100/s against 20 to 50/s: twice as much at the estimate, two to five times as much at the bounds."""
    piece = sustained({20: FAR, 50: FAR, 100: FAR}, {20: FAR, 50: NEAR, 100: OVER})
    assert interval(piece, "ratio") == Interval(2.0, 2.0, 5.0, 4)
    assert interval(piece, "difference") == Interval(50, 50, 80, 4)


def test_an_open_comparison_names_the_rates_of_both_sides() -> None:
    """What lacks is told in rates, and not in the ratio's own numbers; a side that is known is left out."""
    near, known = ({20: FAR, 50: FAR, 100: top} for top in (NEAR, FAR))
    baseline = {20: FAR, 50: NEAR, 100: OVER}
    rule = Rule("sustained_rate", "ratio", 3.0, maximum=False)
    (gate,) = judge([rule], [sustained(near, baseline)], OK, baseline="base").gates
    assert "Open are the candidate's rates from 50 to 100/s and the baseline's rates from 20 to 50/s:" in gate.sentence
    (gate,) = judge([rule], [sustained(known, baseline)], OK, baseline="base").gates
    assert "Open are the baseline's rates from 20 to 50/s:" in gate.sentence


def test_replicates_past_the_last_look_wait_for_the_next() -> None:
    """A fifth replicate changes neither bounds nor estimate, so that the one lies within the others."""
    tried = (RateTried(50, (*OVER, -200.0)),)
    piece = SustainedRate("a", "sustained_rate", PLAIN, tried, tried, LIMIT)
    assert interval(piece) == Interval(0, 0, 0, 4)
    assert piece.interval("ratio", 0.01, 0.01) is None


def test_a_baseline_that_sustains_nothing_has_no_ratio() -> None:
    """Nothing is divided by 0, the sentence says why, and the difference stays."""
    piece = sustained({50: FAR}, {50: OVER})
    assert piece.interval("ratio", 0.01, 0.01) is None
    (gate,) = judge([Rule("sustained_rate", "ratio", 1.0, maximum=False)], [piece], OK, baseline="base").gates
    assert gate.verdict == "not_evaluated"
    assert "has no ratio: the baseline sustains none of the rates; compare by value or difference" in gate.sentence
    assert interval(piece, "difference") == Interval(50, 50, 50, 4)


def test_a_baseline_that_may_sustain_nothing_bounds_no_ratio_above() -> None:
    """Its lower bound is 0, so that the ratio may be anything above 1."""
    found = interval(sustained({50: FAR}, {50: NEAR}), "ratio")
    assert (found.value, found.low) == (1.0, 1.0)
    assert found.high >= 1e9


def test_before_the_first_look_there_is_nothing_to_say() -> None:
    """Three replicates are no evidence."""
    tried = (RateTried(50, FAR[:3]),)
    assert SustainedRate("a", "sustained_rate", PLAIN, tried, tried, LIMIT).interval("value", 0.01, 0.01) is None


def test_a_percentile_of_too_few_calls_is_told_with_the_seconds_it_would_take() -> None:
    """150 calls a replicate are no p99: the rule is not evaluated, and its sentence says what would buy 662."""
    calls = {(name, key_of({**PLAIN, "rate": 50})): np.full((150, 1), 5.0) for name in ("base", "a")}
    taken = [Replicate(number, calls, {}) for number in range(4)]
    pieces = speed_evidence(taken, "base", "classifier", latency_limit={"latency_p99": LIMIT})
    (piece,) = (each for each in pieces if each.metric == "sustained_rate")
    assert piece == TooFewCalls("a", "sustained_rate", PLAIN, 150, 662)
    rule = Rule("sustained_rate", "value", 50.0, maximum=False)
    (gate,) = judge([rule], [piece], OK, baseline="base", plan=JudgingPlan(10.0, 133.0)).gates
    assert gate.verdict == "not_evaluated"
    assert "n too small, 150 of 662 timed calls a replicate; measure.max_seconds = 133 would buy them" in gate.sentence


@pytest.mark.parametrize("shift", [1e-9, -1e-9])
def test_a_rate_at_the_limit_is_proven_and_refuted_no_oftener_than_stated(shift: float) -> None:
    """With the percentile's true mean at the limit, 2,000 draws are wrong on either side in at most 5 %."""
    random = np.random.default_rng(3)
    wrong = 0
    for draw in LIMIT + shift + random.standard_normal((2000, 4)):
        found = interval(sustained({20: FAR, 50: tuple(draw)}), alpha=0.05)
        wrong += found.low == 50 if shift > 0 else found.high < 50
    assert wrong / 2000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
