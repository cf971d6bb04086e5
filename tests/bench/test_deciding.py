"""What would decide an undecided rule: taken at its word, on synthetic evidence of known truth, it does."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.deciding import JudgingPlan, what_it_takes
from weighbridge.bench.evidence import (
    Agreement,
    BitsPerByte,
    Evidence,
    Interval,
    PairedAccuracy,
    Perplexity,
    ReplicateRatios,
    TwoRuns,
)
from weighbridge.bench.judge import verdict_of
from weighbridge.bench.metrics import Kind
from weighbridge.bench.quality import Estimate
from weighbridge.bench.quality_evidence import PairedClass, PairedQuality, WorstClassRecall
from weighbridge.bench.rules import Rule

ALPHA = 0.01
PLACE = ("a", "metric", {"batch_size": 1})


def interval_of(piece: Evidence, kind: Kind) -> Interval:
    found = piece.interval(kind, ALPHA, ALPHA)
    assert found is not None
    return found


def told(rule: Rule, piece: Evidence, plan: JudgingPlan | None = None) -> str:
    return what_it_takes(rule, piece, interval_of(piece, rule.compare), plan or JudgingPlan(), (ALPHA, ALPHA))


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


def replicates(center: float, n: int, sd: float, *, control: float = 1.0) -> ReplicateRatios:
    """Candidate and control with log ratios of exactly this mean and standard deviation."""
    spread = np.linspace(-1, 1, n)
    spread = sd * spread / spread.std(ddof=1)
    base = tuple(np.full(n, 2.0))
    ratios, twin = center * np.exp(spread), control * np.exp(0.2 * spread)
    return ReplicateRatios(*PLACE, tuple(2.0 * ratios), base, tuple(twin))


def paired(n: int, lost: int, gained: int) -> PairedAccuracy:
    base, ours = np.ones(n, bool), np.ones(n, bool)
    base[:gained], ours[gained : gained + lost] = False, False
    return PairedAccuracy("a", "accuracy", {}, base, ours)


def repeated(piece: Any, times: float) -> Any:
    """Evidence of so many times as many examples of the same kind."""

    def more(values: Any) -> Any:
        return np.resize(values, round(times * len(values)))

    if isinstance(piece, PairedAccuracy):
        return replace(piece, baseline_right=more(piece.baseline_right), candidate_right=more(piece.candidate_right))
    if isinstance(piece, Agreement):
        return replace(piece, same=more(piece.same))
    if isinstance(piece, Perplexity):
        parts = {name: more(getattr(piece, name)) for name in ("baseline_nll", "candidate_nll", "tokens")}
    elif isinstance(piece, BitsPerByte):
        parts = {name: more(getattr(piece, name)) for name in ("baseline_nll", "candidate_nll", "bytes")}
    else:
        both = (piece.baseline, piece.candidate)
        made = [Estimate(each.value, more(each.influence), more(each.flipped)) for each in both]
        parts = dict(zip(("baseline", "candidate"), made, strict=True))
    return replace(piece, **parts)


def perplexity(kind: type[Perplexity] | type[BitsPerByte]) -> Any:
    draw = np.random.default_rng(2)
    tokens = draw.integers(40, 60, 60).astype(np.float64)
    base = tokens * draw.normal(3, 0.2, 60)
    return kind("a", "perplexity", {}, base, base + tokens * draw.normal(0.004, 0.03, 60), tokens)


def estimate(value: float, seed: int) -> Estimate:
    influence = np.random.default_rng(seed).normal(0, 0.2, 200)
    influence -= influence.mean()
    return Estimate(value, influence, influence - 1.0)


@pytest.mark.parametrize(
    ("rule", "piece"),
    [
        (Rule("accuracy", "difference", -0.03, maximum=False), paired(200, 4, 3)),
        (Rule("accuracy", "ratio", 0.97, maximum=False), paired(200, 4, 3)),
        (Rule("accuracy", "difference", -0.001, maximum=False), paired(300, 9, 2)),
        (Rule("agreement", "value", 0.99, maximum=False), Agreement("a", "agreement", {}, np.ones(150, bool))),
        (Rule("perplexity", "ratio", 1.009, maximum=True), perplexity(Perplexity)),
        (Rule("bits_per_byte", "difference", 0.012, maximum=True), perplexity(BitsPerByte)),
        (
            Rule("f1_macro", "difference", -0.02, maximum=False),
            PairedQuality("a", "f1_macro", {}, estimate(0.8, 1), estimate(0.8, 2)),
        ),
    ],
    ids=lambda value: f"{value.metric} {getattr(value, 'compare', '')}".strip(),
)
def test_as_many_examples_as_are_asked_for_decide(rule: Rule, piece: Evidence) -> None:
    """Open as it is; with the number of examples told, all like these, it is decided; with half of the further ones it is not always.

    The number told for accuracy leaves room for chance, so that there half may do; for all others it does not.
    """
    found = interval_of(piece, rule.compare)
    assert verdict_of(rule, found) == "inconclusive"
    sentence = told(rule, piece)
    needed, more = number(r"about (\d+) examples", sentence), number(r", (\d+) more", sentence)
    assert needed - more == found.n
    assert verdict_of(rule, interval_of(repeated(piece, 1.01 * needed / found.n), rule.compare)) != "inconclusive"
    if not isinstance(piece, PairedAccuracy):
        few = repeated(piece, (found.n + 0.5 * more) / found.n)
        assert verdict_of(rule, interval_of(few, rule.compare)) == "inconclusive"


def test_as_many_of_the_worst_class_as_are_asked_for_decide() -> None:
    """1.x times as many examples of every class put the limit outside the interval of the worst recall."""

    def worst(times: float) -> WorstClassRecall:
        classes = (("card", 60, 54, 53, 1, 2), ("loan", 90, 86, 86, 2, 2))
        counts = [(name, *(round(times * each) for each in numbers)) for name, *numbers in classes]
        return WorstClassRecall("a", "worst_class_recall", {}, tuple(PairedClass(*each) for each in counts))

    rule = Rule("worst_class_recall", "difference", -0.08, maximum=False)
    sentence = told(rule, worst(1))
    times = number(r"about ([\d.]+) times as many examples of every class", sentence)
    assert f"({np.ceil(times * 60):.0f} of card" in sentence or "of card" in sentence
    assert verdict_of(rule, interval_of(worst(1.1 * times), "difference")) == "pass"
    assert verdict_of(rule, interval_of(worst(0.6 * times), "difference")) == "inconclusive"


@pytest.mark.parametrize(("center", "control"), [(1.02, 1.0), (1.015, 1.004), (1.045, 1.0)])
def test_as_many_seconds_as_are_asked_for_decide(center: float, control: float) -> None:
    """With the replicates told, spread as these are and with the control as far off, the rule passes or fails; at the look before not."""
    rule = Rule("latency_p50", "ratio", 1.03, maximum=True)
    piece = replicates(center, 4, 0.005, control=control)
    sentence = told(rule, piece, JudgingPlan(seconds_per_replicate=2.5, max_seconds=10))
    needed = int(number(r"\((\d+) replicates\)", sentence))
    assert needed > 4
    assert f"It needs about {2.5 * (needed - 4):.0f} s more" in sentence
    assert f"set measure.max_seconds = {np.ceil(2.5 * needed):.0f}" in sentence
    wanted = "pass" if center < 1.03 else "fail"
    decided = [
        verdict_of(rule, interval_of(replicates(center, look, 0.005, control=control), "ratio")) for look in (4, needed)
    ]
    assert decided == ["inconclusive", wanted]


def test_a_difference_and_a_value_are_decided_on_their_own_scale() -> None:
    """Milliseconds of candidate - baseline and of the candidate alone: the replicates told put the limit outside."""
    for rule in (
        Rule("latency_p50", "difference", 0.06, maximum=True),
        Rule("latency_p50", "value", 2.0, maximum=False),
    ):
        sentence = told(rule, replicates(1.01, 4, 0.01), JudgingPlan(1.0))
        needed = int(number(r"\((\d+) replicates\)", sentence))
        assert verdict_of(rule, interval_of(replicates(1.01, needed, 0.01), rule.compare)) != "inconclusive"


def test_a_quick_run_is_told_to_be_run_in_full() -> None:
    """Where the budget would have bought the replicates, it was --quick that stopped at four."""
    rule, piece = Rule("latency_p50", "ratio", 1.03, maximum=True), replace(replicates(1.02, 4, 0.005), planned=4)
    assert "; run without --quick. A limit" in told(rule, piece, JudgingPlan(seconds_per_replicate=0.1, max_seconds=8))


def test_no_time_decides_what_lies_on_the_limit() -> None:
    """An estimate a hair from the limit, and a control that is off by more than the room, say that seconds do not help."""
    rule = Rule("latency_p50", "ratio", 1.03, maximum=True)
    assert "No affordable time decides it (floor 0" in told(rule, replicates(1.0299, 12, 0.004))
    off = told(rule, replicates(1.025, 12, 0.004, control=1.02))
    assert "The control, a twin of the baseline, is itself off: floor 2" in off
    assert "Quieten the machine" in off


def test_two_runs_ask_for_replicates_of_both() -> None:
    """Against a saved run the advice is for both, and taken at its word it decides."""
    rule = Rule("latency_p50", "ratio", 1.03, maximum=True)

    def pair(n: int) -> TwoRuns:
        return TwoRuns(*PLACE, replicates(1.015, n, 0.004), replicates(1.0, n, 0.004), through_baselines=True)

    needed = int(number(r"about (\d+) replicates in each of the two runs", told(rule, pair(4))))
    assert verdict_of(rule, interval_of(pair(needed), "ratio")) == "pass"


def test_an_estimate_on_the_limit_needs_another_limit() -> None:
    """Exactly a hundredth lost against a limit of a hundredth: no number of examples decides, a limit does."""
    sentence = told(Rule("accuracy", "difference", -0.01, maximum=False), paired(200, 2, 0))
    assert sentence.startswith("The estimate lies on the limit: no number of examples decides it. A limit that this")
    near = told(Rule("accuracy", "difference", -0.00999, maximum=False), paired(200, 2, 0))
    assert near.startswith("The estimate lies so near the limit that a million examples would not decide it. A limit")


@pytest.mark.parametrize(
    ("rule", "piece"),
    [
        (Rule("latency_p50", "ratio", 1.03, maximum=True), replicates(1.03, 4, 0.01)),
        (Rule("throughput", "ratio", 1.03, maximum=False), replicates(1.03, 4, 0.01)),
        (Rule("latency_p50", "difference", 0.0, maximum=True), replicates(1.0, 4, 0.01)),
        (Rule("latency_p50", "value", 2.0, maximum=True), replicates(1.0, 4, 0.01)),
        (Rule("accuracy", "difference", -0.01, maximum=False), paired(200, 3, 1)),
        (Rule("accuracy", "value", 0.98, maximum=False), paired(200, 3, 1)),
    ],
    ids=lambda value: f"{value.metric} {getattr(value, 'compare', '')}".strip(),
)
def test_the_limits_told_are_decided_by_this_evidence(rule: Rule, piece: Evidence) -> None:
    """The limit that is said to pass passes, the one said to fail fails, and neither is further off than a thousandth of itself."""
    sentence, found = told(rule, piece), interval_of(piece, rule.compare)
    inner, outer = (found.high, found.low) if rule.maximum else (found.low, found.high)
    for word, verdict, end in (("passes", "pass", inner), ("fails", "fail", outer)):
        limit = number(rf"{rule.bound} = (-?[\d.e-]+) {word}", sentence)
        assert verdict_of(replace(rule, limit=limit), found) == verdict
        assert limit == pytest.approx(end, rel=2e-3)


def test_no_limit_is_told_where_the_metric_cannot_be() -> None:
    """Where the interval reaches a share of 1, no limit above it is offered as one that would fail."""
    rule = Rule("agreement", "value", 0.99, maximum=False)
    sentence = told(rule, Agreement("a", "agreement", {}, np.ones(150, bool)))
    assert sentence.endswith("A limit that this evidence decides: min = 0.9697 passes")
