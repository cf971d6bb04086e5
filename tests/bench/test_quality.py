"""Quality metrics against scikit-learn, and their influence functions against adding an example."""

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from weighbridge.bench.metrics import METRICS
from weighbridge.bench.predictions import predicted_classes
from weighbridge.bench.quality import BINS, LEAST_PROBABILITY, NAMES, estimates, probabilities

Draw = tuple[NDArray[np.int64], NDArray[np.float32]]


def drawn(seed: int, n: int, classes: int, *, all_classes: bool = True) -> Draw:
    """Labels and logits of a model that is right more often than not; `classes` = 1 is one column for two classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(classes, 2), n)
    if all_classes:
        labels[: max(classes, 2)] = np.arange(max(classes, 2))
    logits = random.standard_normal((n, classes))
    if classes == 1:
        logits[:, 0] += 2.0 * labels - 1
        logits[0, 0] = min(logits[0, 0], -0.1)  # scores that all lie between 0 and 1 are probabilities, not logits
    else:
        logits[np.arange(n), labels] += 1.0
    return labels.astype(np.int64), np.round(logits, 1).astype(np.float32)


def values(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> dict[str, float]:
    return {name: each.value for name, each in estimates(labels, predicted_classes(scores), scores).items()}


def naive_calibration_error(labels: NDArray[np.int64], table: NDArray[np.float64]) -> float:
    total = 0.0
    for index in range(BINS):
        low, high = index / BINS, (index + 1) / BINS
        rows = [
            (float(row.max()), bool(row.argmax() == label))
            for row, label in zip(table, labels, strict=True)
            if low <= row.max() and (row.max() < high or index == BINS - 1)
        ]
        total += abs(sum(confidence - right for confidence, right in rows))
    return total / len(labels)


def reference(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> dict[str, float]:
    """The same metrics by scikit-learn, over the classes that occur among the labels."""
    binary = scores.shape[1] <= 2
    logits = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
    table = special.softmax(logits.astype(np.float64), axis=1)
    predicted = predicted_classes(scores)
    occurring = np.unique(labels)
    macro: dict[str, Any] = {"labels": occurring, "average": "macro", "zero_division": 0}
    columns = np.arange(table.shape[1])
    indicator = (labels[:, None] == columns).astype(float)
    one_against_rest = [
        sklearn.metrics.roc_auc_score(labels == each, table[:, each])
        for each in ([1] if binary else occurring)
        if 0 < (labels == each).sum() < len(labels)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        balanced = sklearn.metrics.balanced_accuracy_score(labels, predicted)
    clipped = np.clip(table, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    found = {
        "balanced_accuracy": balanced,
        "precision_macro": sklearn.metrics.precision_score(labels, predicted, **macro),
        "recall_macro": sklearn.metrics.recall_score(labels, predicted, **macro),
        "f1_macro": sklearn.metrics.f1_score(labels, predicted, **macro),
        "f1_weighted": sklearn.metrics.f1_score(labels, predicted, **{**macro, "average": "weighted"}),
        "log_loss": sklearn.metrics.log_loss(labels, clipped, labels=columns),
        "brier": sklearn.metrics.brier_score_loss(labels, table[:, 1] if binary else table, labels=columns),
        "mse": sklearn.metrics.mean_squared_error(indicator, table),
        "rmse": sklearn.metrics.root_mean_squared_error(indicator.ravel(), table.ravel()),
        "expected_calibration_error": naive_calibration_error(labels, table),
    }
    return found | ({"roc_auc": float(np.mean(one_against_rest))} if one_against_rest else {})


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), classes=st.integers(1, 6), every=st.booleans())
def test_every_metric_is_scikit_learns(seed: int, n: int, classes: int, every: bool) -> None:
    """Binary by one or two scores and up to six classes, ties, absent and never predicted classes: each value is the reference's."""
    labels, scores = drawn(seed, max(n, classes), classes, all_classes=every)
    assert values(labels, scores) == pytest.approx(reference(labels, scores), rel=1e-6, abs=1e-6)


def test_multi_class_roc_auc_is_scikit_learns_one_against_the_rest() -> None:
    """With every class present the value is roc_auc_score(multi_class="ovr", average="macro")."""
    labels, scores = drawn(3, 200, 5)
    wanted = sklearn.metrics.roc_auc_score(labels, probabilities(scores), multi_class="ovr", average="macro")
    assert values(labels, scores)["roc_auc"] == pytest.approx(wanted)


def test_every_metric_is_in_the_registry_and_measured() -> None:
    """What this module computes is a quality metric of the registry that rules may name."""
    assert all(METRICS[name].family == "quality" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_the_influence_is_what_one_more_example_does(name: str, classes: int) -> None:
    """Adding an example to 300 copies of the data moves each metric by its influence / n, to the next order of 1 / n."""
    labels, scores = drawn(7, 40, classes)
    found = estimates(labels, predicted_classes(scores), scores)[name]
    assert found.influence.sum() == pytest.approx(0, abs=1e-9)
    copies = 300
    many, table = np.tile(labels, copies), np.tile(scores, (copies, 1))
    for example in range(0, 40, 7):
        more = values(np.append(many, labels[example]), np.vstack([table, scores[example]]))[name]
        assert (more - found.value) * (len(many) + 1) == pytest.approx(found.influence[example], rel=0.015, abs=0.015)


@pytest.mark.parametrize("name", NAMES)
def test_the_flipped_influence_is_that_of_the_two_best_classes_changed(name: str) -> None:
    """An example with its two best scores swapped, added to 300 copies of the data, moves the metric by its flipped influence."""
    labels, scores = drawn(8, 40, 4)
    scores += 0.001 * np.arange(4, dtype=np.float32)
    found = estimates(labels, predicted_classes(scores), scores)[name]
    copies = 300
    many, table = np.tile(labels, copies), np.tile(scores, (copies, 1))
    for example in range(0, 40, 7):
        second, best = scores[example].argsort()[-2:]
        row = scores[example].copy()
        row[[best, second]] = row[[second, best]]
        more = values(np.append(many, labels[example]), np.vstack([table, row]))[name]
        assert (more - found.value) * (len(many) + 1) == pytest.approx(found.flipped[example], rel=0.015, abs=0.015)


def test_the_first_hit_of_a_class_that_is_never_predicted_brings_its_precision_to_1() -> None:
    """Of two classes one is never predicted: a flip to a hit moves the mean of both by 1 / 2, so n times that by its share."""
    labels = np.array([0] * 90 + [1] * 10)
    found = estimates(labels, np.zeros(100, np.int64), np.tile(np.float32([2.0, 0.0]), (100, 1)))["precision_macro"]
    assert found.value == pytest.approx(0.45)
    assert found.flipped.max() == pytest.approx(100 * 0.5)


def test_rows_that_sum_to_one_are_probabilities_and_others_logits() -> None:
    """The whole array decides: one row that does not sum to 1 makes all of them logits."""
    given_ = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    np.testing.assert_allclose(probabilities(given_), given_)
    mixed = np.array([[0.25, 0.75], [0.5, 0.9]], np.float32)
    np.testing.assert_allclose(probabilities(mixed), special.softmax(mixed.astype(np.float64), axis=1))


def test_a_single_score_is_the_probability_or_logit_of_class_1() -> None:
    """Scores within [0, 1] are probabilities; one outside makes all of them logits."""
    np.testing.assert_allclose(probabilities(np.array([[0.2], [1.0]], np.float32)), [[0.8, 0.2], [0, 1]], atol=1e-7)
    np.testing.assert_allclose(probabilities(np.array([[0.0], [-2.0]], np.float32))[:, 1], special.expit([0.0, -2.0]))


def test_scores_that_are_not_finite_have_no_metrics_of_probabilities() -> None:
    """One NaN leaves the metrics of predicted classes and takes away the others."""
    labels, scores = drawn(1, 30, 3)
    scores[4, 1] = np.nan
    found = values(labels, scores)
    assert "f1_macro" in found
    assert not {"log_loss", "brier", "roc_auc", "mse", "rmse", "expected_calibration_error"} & set(found)


def test_labels_of_one_class_have_no_roc_auc() -> None:
    """Without a rest to set it against, the area is not defined and left out."""
    _, scores = drawn(1, 30, 3)
    found = values(np.zeros(30, np.int64), scores)
    assert "roc_auc" not in found
    assert found["recall_macro"] == np.mean(predicted_classes(scores) == 0)


def test_a_label_beyond_the_scores_has_probability_zero() -> None:
    """A class that the model has no score for costs the most that log loss can, and no error."""
    labels, scores = np.array([0, 1, 3]), np.array([[9.0, 0], [0, 9.0], [9.0, 0]], np.float32)
    assert values(labels, scores)["log_loss"] == pytest.approx(-np.log(LEAST_PROBABILITY) / 3, abs=1e-3)


def test_probabilities_of_half_precision_are_still_probabilities() -> None:
    """Rows that sum to 1 within the rounding of 16 bits are taken as they are."""
    rounded = special.softmax(np.random.default_rng(2).standard_normal((50, 9)), axis=1).astype(np.float16)
    np.testing.assert_array_equal(probabilities(rounded.astype(np.float32)), rounded)


@given(steps=st.lists(st.integers(-8, 72), min_size=1, max_size=8))
def test_the_single_score_is_read_alike_by_predictions_and_probabilities(steps: list[int]) -> None:
    """The predicted class of a single score is the one that its probability exceeds one half for."""
    scores = np.array(steps, np.float32)[:, None] / 64
    np.testing.assert_array_equal(predicted_classes(scores) == 1, probabilities(scores)[:, 1] > 0.5)
