"""Which class is taken for which, and whether confidence keeps its word: held to counts by hand and to scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from weighbridge.bench.confusions import MOST_PAIRS, confusions, reliability
from weighbridge.bench.predictions import ClassPredictions

NAMES = ("card", "loan", "refund")


def answers(labels: list[int], predicted: list[int], scores: list[list[float]] | None = None) -> ClassPredictions:
    table = np.array(scores, dtype=np.float32) if scores else np.eye(3, dtype=np.float32)[np.array(predicted)]
    return ClassPredictions(np.array(labels), np.array(predicted), table, ("",) * len(labels))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_counts_are_those_off_the_diagonal_of_the_confusion_matrix(pairs: list[tuple[int, int]]) -> None:
    """Every wrong pair of classes is counted as scikit-learn's confusion matrix counts it; right answers are left out."""
    labels, predicted = (list(each) for each in zip(*pairs, strict=True))
    matrix = confusion_matrix(labels, predicted, labels=[0, 1, 2])
    found = {(each.label, each.prediction): each.n for each in confusions({"x": answers(labels, predicted)}, NAMES)}
    expected = {
        (NAMES[row], NAMES[column]): int(matrix[row, column])
        for row in range(3)
        for column in range(3)
        if row != column and matrix[row, column]
    }
    assert found == expected


def test_the_commonest_pairs_over_all_variants_come_first() -> None:
    """A pair's place is by its count over all variants, so that no variant's count of a kept pair is left out."""
    found = list(
        confusions({"a": answers([0, 0, 1], [1, 1, 2]), "b": answers([0, 1, 1], [0, 2, 2]), "c": answers([2], [2])})
    )
    assert [(each.variant, each.label, each.prediction, each.n) for each in found] == [
        ("a", "1", "2", 1),
        ("b", "1", "2", 2),
        ("a", "0", "1", 2),
    ]


def test_rare_pairs_of_many_classes_are_left_out() -> None:
    """Of more pairs than are kept the rarest go."""
    labels = [0, 0, *range(1, MOST_PAIRS + 40)]
    predicted = [1, 1, *([0] * (MOST_PAIRS + 39))]
    many = ClassPredictions(
        np.array(labels), np.array(predicted), np.zeros((len(labels), 300), np.float32), ("",) * len(labels)
    )
    found = list(confusions({"x": many}))
    assert len(found) == MOST_PAIRS
    assert (found[0].label, found[0].prediction, found[0].n) == ("0", "1", 2)


def test_reliability_is_counted_by_bins_of_confidence() -> None:
    """Two answers at 0.9 and 0.92, one of them right, share the bin from 0.867 to 0.933; one at 0.5 has its own."""
    scores = [[0.9, 0.06, 0.04], [0.92, 0.04, 0.04], [0.3, 0.5, 0.2]]
    low, high = reliability({"x": answers([0, 2, 1], [0, 0, 1], scores)})
    assert (low.n, low.confidence, low.accuracy) == (1, pytest.approx(0.5), 1.0)
    assert (high.low, high.high) == (pytest.approx(13 / 15), pytest.approx(14 / 15))
    assert (high.n, high.confidence, high.accuracy) == (2, pytest.approx(0.91), 0.5)


def test_full_confidence_lies_in_the_last_bin() -> None:
    """A probability of exactly 1 belongs to the bin that ends there."""
    (only,) = reliability({"x": answers([0, 1], [0, 1])})
    assert (only.high, only.n, only.confidence) == (1.0, 2, 1.0)


def test_bins_give_the_expected_calibration_error() -> None:
    """Summed over the bins, n times the gap of confidence and accuracy is the metric of that name."""
    draw = np.random.default_rng(1)
    scores = draw.dirichlet((1, 1, 1), 200).astype(np.float32)
    labels = draw.integers(0, 3, 200)
    made = ClassPredictions(labels, scores.argmax(axis=1), scores, ("",) * 200)
    gaps = sum(each.n * abs(each.confidence - each.accuracy) for each in reliability({"x": made})) / 200
    assert gaps == pytest.approx(made.quality["expected_calibration_error"].value)


def test_without_labels_nothing_is_counted() -> None:
    """Examples without labels have neither confusions nor reliability; a score that is no number has no reliability."""
    unlabelled = {"x": answers([-1, -1], [0, 1])}
    assert not list(confusions(unlabelled))
    assert not list(reliability(unlabelled))
    assert not list(reliability({"x": answers([0, 1], [0, 1], [[np.nan, 0, 0], [0, 1, 0]])}))
