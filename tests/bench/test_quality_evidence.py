"""Evidence from predictions: intervals by hand, what nothing changed proves, the worst class, slices, and the error rates."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.bench.evidence import Evidence, Interval, PairedAccuracy
from weighbridge.bench.judge import VariantState, judge
from weighbridge.bench.predictions import ClassPredictions, read_class_predictions, write_class_predictions
from weighbridge.bench.quality import NAMES, Estimate
from weighbridge.bench.quality_evidence import (
    PairedClass,
    PairedQuality,
    WorstClassRecall,
    copies_to_decide,
    paired_classes,
    quality_evidence,
    slice_evidence,
)
from weighbridge.bench.quality_measurements import class_recalls, quality_measurements
from weighbridge.bench.rules import Rule
from weighbridge.bench.sentences import lack_sentence
from weighbridge.bench.stats import proportion_bounds, tango_bounds

CLASSES = ("card", "loan", "refund")
OK = {"base": VariantState("ok"), "a": VariantState("ok")}


def answers(
    labels: NDArray[np.int64], logits: NDArray[np.float64], slices: dict[str, tuple[str, ...]] | None = None
) -> ClassPredictions:
    scores = logits.astype(np.float32)
    return ClassPredictions(labels, scores.argmax(axis=1), scores, ("",) * len(labels), slices or {})


def drawn(
    n: int, seed: int = 0, shares: tuple[float, ...] = (0.4, 0.3, 0.3)
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    labels = random.choice(3, n, p=shares)
    logits = random.standard_normal((n, 3))
    logits[np.arange(n), labels] += 2.5
    return labels.astype(np.int64), logits


def pair(n: int, noise: float, seed: int = 0) -> dict[str, ClassPredictions]:
    labels, logits = drawn(n, seed)
    other = logits + noise * np.random.default_rng(seed + 1).standard_normal(logits.shape)
    return {"base": answers(labels, logits), "a": answers(labels, other)}


def by_metric(classes: dict[str, ClassPredictions]) -> dict[str, Evidence]:
    return {each.metric: each for each in quality_evidence(classes, "base", CLASSES)}


def interval(piece: Evidence, kind: str = "difference", alpha: float = 0.01) -> Interval:
    found = piece.interval(kind, alpha, alpha)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_every_quality_metric_has_evidence() -> None:
    """A labelled classifier has agreement, accuracy, the worst class and all metrics of classes and probabilities."""
    assert set(by_metric(pair(60, 0.1))) == {"agreement", "accuracy", "worst_class_recall", *NAMES}


def test_without_labels_there_is_agreement_alone() -> None:
    """What needs a label is left out where one is missing."""
    classes = {
        name: ClassPredictions(np.full(60, -1), each.predicted, each.scores, each.texts)
        for name, each in pair(60, 0.1).items()
    }
    assert set(by_metric(classes)) == {"agreement"}
    assert {each.metric for each in quality_measurements(classes, "base")} == {"agreement"}
    assert not list(class_recalls(classes, "base"))


@pytest.mark.parametrize("name", NAMES)
def test_estimates_are_the_differences_ratios_and_values(name: str) -> None:
    """Each kind's value is made of the two metrics, and lies within its bounds; smaller errors give wider ones."""
    classes = pair(400, 0.3)
    piece = by_metric(classes)[name]
    ours, theirs = classes["a"].quality[name].value, classes["base"].quality[name].value
    for kind, wanted in (("difference", ours - theirs), ("ratio", ours / theirs), ("value", ours)):
        near, far = interval(piece, kind, 0.05), interval(piece, kind, 1e-4)
        assert near.value == pytest.approx(wanted)
        assert far.low < near.low < near.value < near.high < far.high


@pytest.mark.parametrize("name", ["accuracy", *(name for name in NAMES if name != "log_loss")])
def test_identical_answers_pass_a_point_with_2000_examples_and_not_with_50(name: str) -> None:
    """A candidate with the very scores of its baseline is shown to lose less than 0.01 by 2000 examples, but not by 50."""
    for n, shown in ((2000, True), (50, False)):
        found = interval(by_metric(pair(n, 0.0))[name])
        assert found.value == 0
        assert (found.low >= -0.01 and found.high <= 0.01) == shown


def test_a_rare_class_widens_the_interval_of_a_macro_metric() -> None:
    """With 20 of 2000 examples in a class whose answers did not change, balanced accuracy may still have lost points."""
    labels, logits = drawn(2000, shares=(0.5, 0.49, 0.01))
    classes = {"base": answers(labels, logits), "a": answers(labels, logits)}
    rare = int((labels == 2).sum())
    assert interval(by_metric(classes)["balanced_accuracy"]).low == pytest.approx(-np.log(100) / (3 * rare), rel=0.1)


@pytest.mark.parametrize(("name", "kind"), [("f1_macro", "difference"), ("brier", "ratio")])
def test_bounds_agree_with_a_bootstrap_where_much_changed(name: str, kind: str) -> None:
    """With 600 examples and a tenth of the answers changed, the 5 % bounds are the percentile bootstrap's."""
    classes = pair(600, 0.8)
    found = interval(by_metric(classes)[name], kind, alpha=0.05)
    random, compared = np.random.default_rng(4), []
    for _ in range(600):
        rows = random.integers(0, 600, 600)
        values = [
            answers(each.labels[rows], each.scores[rows].astype(np.float64)).quality[name].value
            for each in (classes["a"], classes["base"])
        ]
        compared.append(values[0] / values[1] if kind == "ratio" else values[0] - values[1])
    low, high = np.quantile(compared, [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_a_ratio_to_nearly_nothing_stays_within_reason() -> None:
    """A ratio of millions to a baseline without a loss in 200 examples might be below 1, had one more of its answers flipped."""
    labels, logits = drawn(200)
    classes = {"base": answers(labels, np.eye(3)[labels] * 40), "a": answers(labels, logits)}
    found = interval(by_metric(classes)["log_loss"], "ratio")
    assert 0 <= found.low < 1
    assert 1e6 < found.value < found.high


def test_a_ratio_to_zero_is_not_evaluated_and_says_why() -> None:
    """Where the baseline's metric is 0 there is no ratio, and the verdict's sentence says that."""
    none = Estimate(0.0, np.zeros(9), np.zeros(9))
    piece = PairedQuality("a", "f1_macro", {}, none, none)
    assert piece.interval("ratio", 0.01, 0.01) is None
    assert lack_sentence(piece, 0.0) == (
        "a: f1_macro was not evaluated: the baseline's is 0, and nothing has a ratio to it; compare by value or difference"
    )


# --- a class that nobody predicts, and roots ---


def test_a_class_that_is_never_predicted_proves_no_precision() -> None:
    """Ten of 1,000 labels are of a class that neither model predicts: what its precision might be is open, down to the last point."""
    labels = (np.arange(1000) % 100 == 0).astype(np.int64)
    same = answers(labels, np.tile([2.0, 0.0], (1000, 1)))
    pieces = by_metric({"base": same, "a": same})
    assert interval(pieces["precision_macro"]) == Interval(0.0, -1.0, 1.0, 1000)
    assert interval(pieces["accuracy"]).low > -0.01


def perfect(n: int) -> ClassPredictions:
    labels = np.arange(n) % 3
    return answers(labels, np.eye(3)[labels])


def test_a_root_has_the_bounds_of_its_mean_square() -> None:
    """The interval of a value of rmse is the root of that of mse."""
    pieces = by_metric(pair(200, 0.5))
    wanted = interval(pieces["mse"], "value")
    found = interval(pieces["rmse"], "value")
    assert (found.value, found.low, found.high) == pytest.approx(
        (np.sqrt(wanted.value), np.sqrt(wanted.low), np.sqrt(wanted.high))
    )
    measured = {
        each.metric: each for each in quality_measurements(pair(200, 0.5), "base", CLASSES) if each.variant == "a"
    }
    assert measured["rmse"].low == pytest.approx(np.sqrt(measured["mse"].low or 0.0))
    assert measured["rmse"].high == pytest.approx(np.sqrt(measured["mse"].high or 0.0))


def test_five_answers_without_an_error_prove_little_of_a_root() -> None:
    """One more example could be wholly wrong, a square of 2 / 3: the bound is that of its weight, 1 - alpha ** (1 / 5)."""
    found = interval(by_metric({"base": perfect(5), "a": perfect(5)})["rmse"], "value")
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(np.sqrt(2 / 3 * (1 - 0.01 ** (1 / 5))), rel=0.01)


def test_against_a_root_of_0_both_bounds_are_set_at_half_of_the_error() -> None:
    """Two models without an error differ by at most the bound of either at alpha / 2; there is no ratio to 0."""
    piece = by_metric({"base": perfect(5), "a": perfect(5)})["rmse"]
    most = np.sqrt(2 / 3 * (1 - 0.005 ** (1 / 5)))
    found = interval(piece)
    assert (found.value, found.low, found.high) == pytest.approx((0.0, -most, most), rel=0.01)
    assert piece.interval("ratio", 0.01, 0.01) is None


def test_a_root_of_0_has_a_ratio_to_another() -> None:
    """It lies between 0 and the candidate's upper bound over the baseline's lower one."""
    labels = np.arange(60) % 3
    other = np.eye(3)[labels] * 0.7 + 0.1
    pieces = by_metric({"base": answers(labels, other), "a": perfect(60)})
    found = interval(pieces["rmse"], "ratio")
    of_candidate = by_metric({"base": perfect(60), "a": perfect(60)})["mse"].interval("value", 0.005, 0.005)
    of_baseline = by_metric({"base": perfect(60), "a": answers(labels, other)})["mse"].interval("value", 0.005, 0.005)
    assert of_candidate is not None
    assert of_baseline is not None
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(np.sqrt(of_candidate.high / of_baseline.low))


# --- the worst class ---


def worst_of(*classes: tuple[int, int, int, int, int]) -> WorstClassRecall:
    """Each class: n, right answers of baseline and candidate, gained, lost."""
    return WorstClassRecall(
        "a", "worst_class_recall", {}, tuple(PairedClass(f"c{i}", *each) for i, each in enumerate(classes))
    )


def test_classes_are_paired_by_hand() -> None:
    """Counts of right answers, gained and lost ones of every class that occurs; a class without a name is its number."""
    labels = np.array([0, 0, 0, 3, 3])
    base, other = np.array([0, 0, 1, 3, 1]), np.array([0, 1, 0, 3, 3])
    scores = np.zeros((5, 4), np.float32)
    models = (ClassPredictions(labels, each, scores, ("",) * 5) for each in (base, other))
    assert paired_classes(*models, CLASSES) == (PairedClass("card", 3, 2, 2, 1, 1), PairedClass("3", 2, 1, 2, 1, 0))


def test_the_worst_recall_is_bounded_by_the_classes_bounds() -> None:
    """Lower: the least exact bound of the classes at alpha; upper: the least at alpha over their number."""
    piece = worst_of((50, 45, 40, 0, 5), (200, 190, 180, 5, 15))
    found = interval(piece, "value")
    assert found.value == 0.8
    assert found.n == 50
    assert found.low == proportion_bounds(40, 50, 0.01, 0.01)[0]
    assert found.high == proportion_bounds(40, 50, 0.01, 0.005)[1]


def test_the_difference_of_worst_recalls_uses_the_better_of_two_bounds() -> None:
    """With one class it is Tango's at half the error; with many equal ones the bound by the recalls themselves may be nearer."""
    one = interval(worst_of((300, 280, 275, 5, 10)))
    assert (one.low, one.high) == pytest.approx(tango_bounds(5, 10, 300, 0.005, 0.005))
    apart = interval(worst_of((300, 150, 150, 0, 0), (300, 290, 250, 0, 40)))
    tango = tango_bounds(0, 40, 300, 0.005, 0.005)[0]
    assert apart.low > tango
    assert apart.value == 0


def test_the_worst_class_has_no_ratio_and_is_named() -> None:
    """A ratio is refused; the sentence of a verdict names the class and its own number of examples."""
    piece = worst_of((50, 45, 40, 0, 5), (200, 190, 180, 5, 15))
    assert piece.interval("ratio", 0.01, 0.01) is None
    rule = Rule("worst_class_recall", "difference", -0.12, maximum=False)
    (gate,) = judge([rule], [piece], OK, baseline="base").gates
    assert "(50 examples of class c0)" in gate.sentence
    assert gate.verdict == "inconclusive"
    assert "times as many examples of every class" in gate.sentence


@pytest.mark.parametrize("side", ["low", "high"])
def test_choosing_the_worst_class_keeps_the_error(side: str) -> None:
    """Ten equal classes, a true change of 5 points in one of them: bounds of value and difference hold their error of 5 %."""
    random, n, alpha, trials = np.random.default_rng(2), 60, 0.05, 400
    base_recall, other_recall = np.full(10, 0.9), np.full(10, 0.9)
    other_recall[3] = 0.85
    wrong = {"value": 0, "difference": 0}
    truth = {"value": 0.85, "difference": -0.05}
    for _ in range(trials):
        drawn_ = random.random((10, n, 1))
        base, other = (drawn_[..., 0] < recall[:, None] for recall in (base_recall, other_recall))
        piece = worst_of(
            *(
                (n, int(b.sum()), int(o.sum()), int((o & ~b).sum()), int((b & ~o).sum()))
                for b, o in zip(base, other, strict=True)
            )
        )
        for kind in wrong:
            found = interval(piece, kind, alpha)
            wrong[kind] += found.low > truth[kind] if side == "low" else found.high < truth[kind]
    assert max(wrong.values()) / trials <= alpha + 2 * np.sqrt(alpha / trials)


# --- what it would take ---


@pytest.mark.parametrize("name", ["f1_macro", "log_loss"])
def test_the_examples_that_would_decide_do_decide(name: str) -> None:
    """With the named multiple of the examples, repeated as they are, the limit lies outside; with three quarters it does not."""
    piece = by_metric(pair(150, 0.2))[name]
    assert isinstance(piece, PairedQuality)
    limit = piece.candidate.value - piece.baseline.value - 0.02
    copies = copies_to_decide(piece, "difference", limit, (0.01, 0.01))
    assert copies is not None
    assert copies > 1
    decided, undecided = (piece.interval("difference", 0.01, 0.01, times) for times in (copies, 0.75 * copies))
    assert decided is not None
    assert undecided is not None
    assert decided.low > limit >= undecided.low


def test_a_limit_at_the_estimate_is_never_decided() -> None:
    """On the limit itself no number of examples helps; the sentences say so, on it and very near to it."""
    piece = by_metric(pair(150, 0.4))["f1_macro"]
    assert isinstance(piece, PairedQuality)
    value = interval(piece).value
    assert copies_to_decide(piece, "difference", value, (0.01, 0.01)) is None
    for limit, words in ((value, "lies on the limit"), (value - 1e-6, "a million examples would not decide it")):
        rule = Rule("f1_macro", "difference", limit, maximum=False)
        assert words in judge([rule], [piece], OK, baseline="base").gates[0].sentence


def test_an_open_rule_says_how_many_examples_it_would_take() -> None:
    """The sentence of an undecided metric gives a number of examples."""
    rule = Rule("f1_macro", "difference", -0.02, maximum=False)
    (gate,) = judge([rule], [by_metric(pair(150, 0.2))["f1_macro"]], OK, baseline="base").gates
    assert gate.verdict == "inconclusive"
    assert "examples that change as these do, " in gate.sentence


# --- slices ---


def sliced_pair() -> dict[str, ClassPredictions]:
    labels, logits = drawn(90)
    languages = tuple(("de", "fr", "missing")[row % 3] for row in range(90))
    other = logits.copy()
    other[1::3] = other[1::3, ::-1]
    kept = {"language": languages}
    return {"base": answers(labels, logits, kept), "a": answers(labels, other, kept)}


def test_slices_are_judged_on_their_own_examples() -> None:
    """Each value of the column has evidence of its 30 examples, for the metrics that were asked for."""
    found = list(slice_evidence(sliced_pair(), "base", {"accuracy", "f1_macro"}, CLASSES))
    assert [(each.conditions["slice"], each.metric) for each in found] == [
        (f"language={value}", metric) for value in ("de", "fr", "missing") for metric in ("accuracy", "f1_macro")
    ]
    assert {interval(each).n for each in found} == {30}
    unchanged = [interval(each).value for each in found if each.conditions["slice"] != "language=fr"]
    assert set(unchanged) == {0}
    accuracy = next(each for each in found if each.conditions["slice"] == "language=fr")
    assert isinstance(accuracy, PairedAccuracy)
    assert interval(accuracy).value < -0.2


def test_a_slice_in_which_a_metric_is_not_defined_keeps_its_rule_from_passing() -> None:
    """The mails are all of one class and have no area under a curve: their verdict says so, beside that of the rest."""
    labels, logits = drawn(300)
    kept = {"source": tuple("mail" if label == 0 and row % 2 else "web" for row, label in enumerate(labels.tolist()))}
    same = answers(labels, logits, kept)
    pieces = list(slice_evidence({"base": same, "a": same}, "base", {"roc_auc"}, CLASSES))
    rule = Rule("roc_auc", "difference", -0.5, maximum=False, slice="source")
    judgement = judge([rule], pieces, OK, baseline="base")
    assert {gate.conditions["slice"]: gate.verdict for gate in judgement.gates} == {
        "source=mail": "not_evaluated",
        "source=web": "pass",
    }
    assert judgement.gates[0].sentence == (
        "a: roc_auc was not evaluated (slice source=mail): all labels are of one class, so that it is not defined"
    )
    assert judgement.exit_code == 3


def test_scores_that_are_not_finite_leave_no_probabilities_within_a_slice() -> None:
    """The reason names the scores where the labels are not what is lacking."""
    classes = sliced_pair()
    classes["a"].scores[0, 0] = np.nan
    pieces = list(slice_evidence(classes, "base", {"log_loss"}, CLASSES))
    assert lack_sentence(pieces[0], 0.0) == (
        "a: log_loss was not evaluated (slice language=de): a score is not finite, so that it is not defined"
    )
    assert pieces[1].interval("difference", 0.01, 0.01) is not None


def test_a_slice_is_read_as_the_whole_is() -> None:
    """Single scores of which one is negative are logits, in a slice too whose scores all lie within [0, 1]."""
    scores = np.array([[0.9], [0.2], [-3.0], [4.0]], np.float32)
    labels = np.array([1, 0, 0, 1])
    kept = {"language": ("fr", "fr", "de", "de")}
    whole = ClassPredictions(labels, (scores[:, 0] > 0).astype(np.int64), scores, ("",) * 4, kept)
    of_label = np.array([1 / (1 + np.exp(-0.9)), 1 / (1 + np.exp(0.2))])
    assert whole.sliced["language=fr"].quality["log_loss"].value == pytest.approx(-np.log(of_label).mean(), rel=1e-6)


def test_slices_are_the_candidates_own() -> None:
    """A baseline of another run on the same examples, which kept no column, is sliced by the candidate's."""
    classes = sliced_pair()
    bare = ClassPredictions(*(getattr(classes["base"], name) for name in ("labels", "predicted", "scores", "texts")))
    wanted, found = (
        [interval(each) for each in slice_evidence({"base": base, "a": classes["a"]}, "base", {"accuracy"})]
        for base in (classes["base"], bare)
    )
    assert found == wanted
    assert len(found) == 3


def test_slices_are_measured_too() -> None:
    """Accuracy and agreement have a measurement within each slice, and only there carry its condition."""
    found = [each for each in quality_measurements(sliced_pair(), "base", CLASSES) if each.variant == "a"]
    within = {(each.metric, each.conditions["slice"]): each.n for each in found if each.conditions}
    assert set(within) == {
        (metric, f"language={value}") for metric in ("accuracy", "agreement") for value in ("de", "fr", "missing")
    }
    assert set(within.values()) == {30}


def test_slices_survive_the_file(tmp_path: Path) -> None:
    """Columns written with the predictions are read back, and none where none was kept."""
    classes = sliced_pair()
    write_class_predictions(tmp_path, classes)
    read = read_class_predictions(tmp_path)
    assert read["a"].slices == classes["a"].slices
    np.testing.assert_array_equal(read["base"].scores, classes["base"].scores)
    (tmp_path / "plain").mkdir()
    write_class_predictions(tmp_path / "plain", pair(9, 0.1))
    assert read_class_predictions(tmp_path / "plain")["a"].slices == {}


# --- measurements and classes ---


def test_every_measurement_has_an_interval_n_and_standard_error() -> None:
    """No quality value stands without its interval, count and standard error; the worst class is named."""
    found = {each.metric: each for each in quality_measurements(pair(200, 0.3), "base", CLASSES) if each.variant == "a"}
    assert set(found) == {"agreement", "accuracy", "worst_class_recall", *NAMES}
    for each in found.values():
        assert each.value is not None
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.value <= each.high
        assert each.standard_error is not None
        assert each.n > 0
    assert found["worst_class_recall"].note.startswith("class ")
    assert f"n = {found['worst_class_recall'].n}" in found["worst_class_recall"].note


@pytest.mark.parametrize("name", ["f1_macro", "roc_auc", "log_loss", "rmse"])
def test_the_standard_error_is_the_spread_over_samples(name: str) -> None:
    """The standard error of one sample of 500 is the standard deviation of the metric over 200 such samples, within a fifth."""
    spread = [answers(*drawn(500, seed)).quality[name].value for seed in range(200)]
    assert answers(*drawn(500, 999)).quality[name].standard_error == pytest.approx(np.std(spread), rel=0.2)


def test_class_recalls_hold_together_at_95_percent() -> None:
    """Each class's interval is Tango's at 5 % shared among classes and sides."""
    classes = pair(300, 0.6)
    found = list(class_recalls(classes, "base", CLASSES))
    assert [(each.variant, each.class_name) for each in found] == [("a", name) for name in CLASSES]
    inside = classes["a"].labels == 1
    ours, theirs = classes["a"].correct[inside], classes["base"].correct[inside]
    low, high = tango_bounds(
        int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), int(inside.sum()), 0.025 / 3, 0.025 / 3
    )
    assert (found[1].n, found[1].low, found[1].high) == (int(inside.sum()), pytest.approx(low), pytest.approx(high))
    assert found[1].difference == pytest.approx(found[1].candidate - found[1].baseline)


# --- the promised rates, with the truth at the limit ---


@pytest.mark.parametrize("name", ["f1_macro", "balanced_accuracy", "brier", "roc_auc"])
def test_a_candidate_at_the_limit_passes_and_fails_no_oftener_than_stated(name: str) -> None:
    """Samples of 300 from a population with 4 % changed answers: each bound crosses the true difference in at most 5 % of draws."""
    labels, logits = drawn(20_000, seed=11, shares=(0.6, 0.3, 0.1))
    random = np.random.default_rng(12)
    other, rows = logits.copy(), np.flatnonzero(random.random(20_000) < 0.04)
    other[rows] = np.roll(other[rows], 1, axis=1)
    whole = (answers(labels, logits).quality[name], answers(labels, other).quality[name])
    truth, trials, alpha = whole[1].value - whole[0].value, 300, 0.05
    wrong = np.zeros(2)
    for _ in range(trials):
        chosen = random.integers(0, 20_000, 300)
        found = [answers(labels[chosen], table[chosen]).quality[name] for table in (logits, other)]
        bounds = interval(PairedQuality("a", name, {}, *found), alpha=alpha)
        wrong += [bounds.low > truth, bounds.high < truth]
    assert (wrong / trials <= alpha + 2 * np.sqrt(alpha / trials)).all()


def test_the_same_raw_files_give_the_same_numbers(tmp_path: Path) -> None:
    """Nothing is drawn: evidence from the files read twice is equal to the last digit."""
    write_class_predictions(tmp_path, pair(120, 0.3))

    def numbers() -> str:
        pieces = quality_evidence(read_class_predictions(tmp_path), "base", CLASSES)
        return json.dumps([vars(interval(each, each.kinds[0])) for each in pieces])

    assert numbers() == numbers()


def test_intervals_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again at the next look, an interval is remembered: the bound is not computed a second time."""
    piece = by_metric(pair(60, 0.3))["f1_macro"]
    first = interval(piece)

    def refuse(*_: object) -> float:
        raise AssertionError

    target: Callable[..., float] = refuse
    monkeypatch.setattr("weighbridge.bench.bounded_mean.BoundedMean.low", target)
    assert interval(piece) is first
