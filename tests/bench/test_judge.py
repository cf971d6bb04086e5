"""Verdicts from evidence of known truth: what passes, what fails, what stays open, and what each costs in exit codes."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from weighbridge.bench.config import GatesConfig
from weighbridge.bench.deciding import JudgingPlan
from weighbridge.bench.evidence import Agreement, Evidence, Exact, PairedAccuracy, Perplexity, ReplicateRatios
from weighbridge.bench.judge import Judgement, VariantState, judge
from weighbridge.bench.rules import Rule, rules_of

SHAPE = {"batch_size": 1, "threads": 1}
OK = {"base": VariantState("ok"), "a": VariantState("ok")}
FASTER = Rule("latency_p50", "ratio", 1.03, maximum=True)
ACCURATE = Rule("accuracy", "difference", -0.01, maximum=False)


def ratios(
    center: float, n: int = 4, sd: float = 0.002, *, control: float | None = 1.0, variant: str = "a"
) -> ReplicateRatios:
    random = np.random.default_rng(0)
    noise = np.exp(sd * (random.permutation(np.linspace(-1.3, 1.3, n))))
    base = np.full(n, 2.0)
    twin = None if control is None else tuple(control * np.exp(sd * np.linspace(-1, 1, n)))
    return ReplicateRatios(variant, "latency_p50", SHAPE, tuple(base * center * noise), tuple(base), twin)


def accuracy(lost: int, gained: int, n: int) -> PairedAccuracy:
    base, cand = np.ones(n, bool), np.ones(n, bool)
    base[:gained], cand[gained : gained + lost] = False, False
    return PairedAccuracy("a", "accuracy", {}, base, cand)


def judged(
    rules: list[Rule], evidence: list[Evidence], states: dict[str, VariantState] | None = None, **more: object
) -> Judgement:
    return judge(rules, evidence, states or OK, baseline="base", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("center", "verdict", "code"), [(0.5, "pass", 0), (1.2, "fail", 1), (1.03, "inconclusive", 3)])
def test_the_whole_interval_decides(center: float, verdict: str, code: int) -> None:
    """Inside the limit passes, outside fails, across it stays open; the exit code follows."""
    judgement = judged([FASTER], [ratios(center)])
    assert [gate.verdict for gate in judgement.gates] == [verdict]
    assert judgement.exit_code == code


def test_the_interval_is_students_t_with_the_error_shared_among_the_looks() -> None:
    """One candidate, one rule, error 1 %: each side of the log ratio is scipy's t at four fifths of 0.221 % (six looks)."""
    piece = ratios(0.5, n=6)
    logs = np.log(piece.ratios)
    low, high = scipy.stats.t.interval(1 - 2 * 0.8 * 0.00221, 5, logs.mean(), scipy.stats.sem(logs))
    (comparison,) = judged([FASTER], [piece]).comparisons
    assert (comparison.low, comparison.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert comparison.confidence == pytest.approx(0.98)
    assert comparison.replicates == 6


def test_replicates_past_the_last_look_wait_for_the_next() -> None:
    """With seven replicates the verdict rests on the look at six; with three there is none."""
    assert judged([FASTER], [ratios(0.5, n=7)]).comparisons[0].replicates == 6
    (gate,) = judged([FASTER], [ratios(0.5, n=3)]).gates
    assert gate.verdict == "not_evaluated"
    assert "too little was measured" in gate.sentence


def test_wrong_passes_are_split_over_candidates_and_wrong_fails_over_rules_and_shapes() -> None:
    """With 2 candidates at 2 shapes the upper bound carries 0.01/2, the lower 0.01/4."""
    shapes = [SHAPE, {**SHAPE, "batch_size": 8}]
    pieces = [
        dataclasses.replace(ratios(0.9, variant=name), conditions=shape) for name in ("a", "b") for shape in shapes
    ]
    states = {**OK, "b": VariantState("ok")}
    comparison = judged([FASTER], pieces, states).comparisons[0]
    assert comparison.confidence == pytest.approx(1 - 0.01 / 2 - 0.01 / 4)


def test_a_control_that_is_off_widens_every_ratio() -> None:
    """A twin that is 2 % slower than itself moves both bounds outward by what its interval proves, and no more."""
    honest, off = ratios(0.9, n=12, control=1.0), ratios(0.9, n=12, control=1.02)
    narrow, wide = (judged([FASTER], [piece]).comparisons[0] for piece in (honest, off))
    control = judged([FASTER], [off]).control[0]
    assert control.low > 1
    assert wide.high / narrow.high == pytest.approx(control.low)
    assert narrow.low / wide.low == pytest.approx(control.low)


def test_a_limit_finer_than_the_floor_says_so() -> None:
    """Where the control's own bias covers the distance to the limit, the sentence names the floor."""
    (gate,) = judged([FASTER], [ratios(1.025, n=12, control=1.03)]).gates
    assert gate.verdict == "inconclusive"
    assert "The control, a twin of the baseline, is itself off: floor" in gate.sentence


def test_an_undecided_speed_rule_says_how_many_seconds_it_needs() -> None:
    """With room to the limit, the sentence gives further seconds and replicates."""
    piece = ratios(1.02, n=4, sd=0.003)
    (gate,) = judged([FASTER], [piece], plan=JudgingPlan(seconds_per_replicate=2.0)).gates
    assert gate.verdict == "inconclusive"
    assert "It needs about 4 s more (6 replicates)" in gate.sentence


def test_an_undecided_accuracy_rule_says_how_many_examples_it_needs() -> None:
    """Four changed answers in 100, as many gained as lost, cannot show a margin of one point; the sentence says what could."""
    (gate,) = judged([ACCURATE], [accuracy(2, 2, 100)]).gates
    assert gate.verdict == "inconclusive"
    assert "examples at this rate of change (4.0%)" in gate.sentence


@pytest.mark.parametrize(("lost", "n", "verdict"), [(0, 2000, "pass"), (400, 2000, "fail"), (20, 2000, "inconclusive")])
def test_accuracy_is_judged_on_pairs(lost: int, n: int, verdict: str) -> None:
    """No lost answer in 2000 passes a margin of a point, a fifth lost fails, exactly a point lost stays open."""
    assert judged([ACCURATE], [accuracy(lost, 0, n)]).gates[0].verdict == verdict


def test_a_sentence_holds_metric_interval_limit_and_n() -> None:
    """A verdict can be read alone."""
    (gate,) = judged([ACCURATE], [accuracy(0, 0, 2000)]).gates
    for part in ("a: accuracy", "points", "against base", "limit at least -1.00 points", "pass", "2000 examples"):
        assert part in gate.sentence


@pytest.mark.parametrize(
    ("status", "named", "code"), [("failed", False, 4), ("unavailable", False, 0), ("unavailable", True, 4)]
)
def test_variants_that_are_not_ok_are_never_passed(status: str, named: bool, code: int) -> None:
    """A failed variant is exit 4; an unavailable one only where a rule names it; neither is evaluated."""
    states = {**OK, "b": VariantState(status, "the reason")}  # type: ignore[arg-type]
    rule = dataclasses.replace(FASTER, variants=("b",)) if named else FASTER
    judgement = judged([rule], [ratios(0.5)], states)
    assert judgement.exit_code == code
    if named:
        assert judgement.gates[0].verdict == "not_evaluated"
        assert "the reason" in judgement.gates[0].sentence


def test_a_required_variant_that_is_unavailable_is_exit_4() -> None:
    """`required` asks for a variant to be ok, whatever the rules say."""
    states = {**OK, "b": VariantState("unavailable", "no GPU")}
    assert judged([FASTER], [ratios(0.5)], states, required=("b",)).exit_code == 4


def test_a_rule_without_a_measurement_is_not_a_pass() -> None:
    """A rule at a shape that was not measured is open, and says which shapes there are."""
    rule = dataclasses.replace(FASTER, conditions={"batch_size": 64})
    judgement = judged([rule], [ratios(0.5)])
    assert judgement.gates[0].verdict == "not_evaluated"
    assert "was not evaluated at batch_size 64 (measured: batch_size 1)" in judgement.gates[0].sentence
    assert judgement.exit_code == 3


def test_a_failed_rule_outranks_an_open_one_and_a_failed_variant_both() -> None:
    """4 goes before 1, 1 before 3."""
    pieces = [ratios(1.2), accuracy(20, 0, 2000)]
    assert judged([FASTER, ACCURATE], pieces).exit_code == 1
    assert judged([FASTER, ACCURATE], pieces, {**OK, "b": VariantState("failed", "x")}).exit_code == 4


def test_warn_turns_an_open_rule_into_0_and_leaves_the_sentence() -> None:
    """`--inconclusive warn` changes the exit code alone."""
    judgement = judged([FASTER], [ratios(1.03)], inconclusive="warn")
    assert judgement.exit_code == 0
    assert judgement.gates[0].verdict == "inconclusive"


def test_warn_does_not_cover_what_was_never_evaluated() -> None:
    """A rule at a shape that was not measured is 3 with `--inconclusive warn` too, beside a rule that passes."""
    elsewhere = Rule("latency_p50", "ratio", 1.03, maximum=True, conditions={"batch_size": 64})
    judgement = judged([FASTER, elsewhere], [ratios(0.9)], inconclusive="warn")
    assert [gate.verdict for gate in judgement.gates] == ["pass", "not_evaluated"]
    assert judgement.exit_code == 3


@pytest.mark.parametrize(("center", "suspicious"), [(0.01, True), (0.2, False)])
def test_an_implausible_gain_is_flagged(center: float, suspicious: bool) -> None:
    """A hundred times faster is flagged beside its pass; five times faster is not."""
    (gate,) = judged([FASTER], [ratios(center)]).gates
    assert (gate.verdict, gate.suspicious) == ("pass", suspicious)


def test_weighing_goes_on_until_speed_is_decided() -> None:
    """An open speed rule asks for more replicates, an open accuracy rule does not; without rules, precision decides."""
    assert not judged([FASTER], [ratios(1.03)]).decided
    assert judged([FASTER, ACCURATE], [ratios(0.5), accuracy(20, 0, 2000)]).decided
    assert judged([], [ratios(0.5, sd=0.001)]).decided
    assert not judged([], [ratios(0.5, sd=0.02)]).decided


def test_sizes_are_exact() -> None:
    """A size has no spread: the interval is the number."""
    rule = Rule("artifact_bytes", "ratio", 0.3, maximum=True)
    (gate,) = judged([rule], [Exact("a", "artifact_bytes", {}, 400.0, 100.0)]).gates
    assert gate.verdict == "pass"
    assert "0.25x" in gate.sentence


def test_a_value_on_the_limit_is_inside() -> None:
    """At most 100 allows 100."""
    rule = Rule("artifact_bytes", "value", 100.0, maximum=True)
    assert judged([rule], [Exact("a", "artifact_bytes", {}, 400.0, 100.0)]).gates[0].verdict == "pass"


def test_an_absolute_time_says_that_it_holds_for_this_session_only() -> None:
    """A value rule on a time carries the warning in its sentence."""
    rule = Rule("latency_p50", "value", 5.0, maximum=True)
    assert "holds for this session only" in judged([rule], [ratios(0.5)]).gates[0].sentence


def test_perplexity_ratio_is_the_exponent_of_the_mean_difference() -> None:
    """A candidate whose every token costs 0.01 nats more has a perplexity ratio of exp(0.01), without spread."""
    tokens = np.array([10.0, 20.0, 30.0])
    piece = Perplexity("a", "perplexity", {}, tokens * 2.0, tokens * 2.01, tokens)
    interval = piece.interval("ratio", 0.01, 0.01)
    assert interval is not None
    assert (interval.value, interval.low, interval.high) == pytest.approx((np.exp(0.01),) * 3)


def test_agreement_has_a_value_only() -> None:
    """Agreement compares with the baseline by itself: 9 of 10 is a value with an exact interval, and no ratio."""
    piece = Agreement("a", "agreement", {}, np.array([True] * 9 + [False]))
    interval = piece.interval("value", 0.025, 0.025)
    assert interval is not None
    assert interval.value == 0.9
    assert piece.interval("ratio", 0.025, 0.025) is None


def test_an_accuracy_ratio_is_judged_for_mlperf() -> None:
    """mlperf-99 passes a candidate that loses nothing in 4000 examples and fails one that loses a tenth."""
    rules = list(rules_of(GatesConfig(preset="mlperf-99"), "classifier"))
    assert judged(rules, [accuracy(0, 0, 4000)]).exit_code == 0
    assert judged(rules, [accuracy(400, 0, 4000)]).exit_code == 1


@pytest.mark.parametrize(
    ("preset", "kind", "expected"),
    [
        ("none", "classifier", []),
        ("no-regression", "classifier", [("latency_p50", "ratio", 1.03), ("accuracy", "difference", -0.01)]),
        ("no-regression", "decoder", [("tpot", "ratio", 1.03), ("perplexity", "ratio", 1.01)]),
        ("mlperf-99", "classifier", [("accuracy", "ratio", 0.99)]),
        ("mlperf-99.9", "classifier", [("accuracy", "ratio", 0.999)]),
        ("mlperf-99", "decoder", [("perplexity", "ratio", 1.01)]),
        ("mlperf-99.9", "decoder", [("perplexity", "ratio", 1.001)]),
    ],
)
def test_presets_are_the_contracts(preset: str, kind: str, expected: list[tuple[str, str, float]]) -> None:
    """Each preset stands for the rules that the contract names."""
    rules = rules_of(GatesConfig.model_validate({"preset": preset}), kind)  # type: ignore[arg-type]
    assert [(rule.metric, rule.compare, rule.limit) for rule in rules] == expected


WITHIN = Rule("accuracy", "difference", -0.1, maximum=False, slice="language")


def in_slice(name: str, lost: int, n: int) -> PairedAccuracy:
    return dataclasses.replace(accuracy(lost, 0, n), conditions={"slice": name})


def test_a_rule_with_a_slice_is_judged_within_each_value_and_no_other_rule_is() -> None:
    """The slice rule has a verdict a value of its column, the rule without one only that on all examples."""
    pieces = [accuracy(20, 0, 400), in_slice("language=de", 0, 200), in_slice("language=fr", 90, 200)]
    judgement = judged([ACCURATE, WITHIN], [*pieces, in_slice("country=de", 90, 200)])
    found = [(gate.conditions.get("slice"), gate.limit["min"], gate.verdict) for gate in judgement.gates]
    assert found == [(None, -0.01, "fail"), ("language=de", -0.1, "pass"), ("language=fr", -0.1, "fail")]
    assert "slice language=fr" in judgement.gates[2].sentence


def test_a_slice_that_the_run_did_not_keep_says_which_columns_it_has() -> None:
    """Judged later by other rules, a run without the column is not evaluated and names those that it kept, or none."""
    (gate,) = judged([WITHIN], [accuracy(0, 0, 200), in_slice("country=de", 0, 100)]).gates
    assert gate.verdict == "not_evaluated"
    assert "not evaluated within language: the run kept the columns ['country']. Name 'language' in" in gate.sentence
    (gate,) = judged([WITHIN], [accuracy(0, 0, 200)]).gates
    assert "the run kept no data column. Name 'language' in workload.columns.slices and run again" in gate.sentence


def test_a_condition_on_one_slice_judges_that_one() -> None:
    """`conditions = { slice = "language=de" }` stands for the column with one of its values."""
    gates = GatesConfig.model_validate(
        {
            "rules": [
                {"metric": "accuracy", "compare": "difference", "min": -0.1, "conditions": {"slice": "language=de"}}
            ]
        }
    )
    (rule,) = rules_of(gates, "classifier")
    judgement = judged([rule], [in_slice("language=de", 0, 200), in_slice("language=fr", 90, 200)])
    assert [gate.verdict for gate in judgement.gates] == ["pass"]
    assert rule.words == "accuracy difference at least -0.1 within each language"
