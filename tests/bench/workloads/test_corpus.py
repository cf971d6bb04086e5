"""Labelled texts of the built-in workloads: their own, or a user's."""

import numpy as np
import pytest
from weighbridge.bench.workloads.builtin import Request
from weighbridge.bench.workloads.corpus import Corpus, corpus_of, need_two_classes
from weighbridge.bench.workloads.data import Rows
from weighbridge.optimize.errors import InputError

TRAINING = Rows(texts=("a", "b", "c", "d"), labels=("yes", "no", "yes", "no"))
EVALUATION = Rows(texts=("e",), labels=("no",))


def test_classes_are_sorted_and_targets_are_their_places() -> None:
    """Of two classes the second of the sorted names is 1; labels that are numbers are sorted as numbers."""
    corpus = Corpus(TRAINING, EVALUATION)
    assert corpus.class_names == ("no", "yes")
    np.testing.assert_array_equal(corpus.targets, [1, 0, 1, 0])
    assert Corpus(Rows(texts=("a",) * 3, labels=("10", "9", "1")), EVALUATION).class_names == ("1", "9", "10")


def test_a_users_rows_come_before_the_workloads_own() -> None:
    """Where a request brings rows, the workload's own are not even read."""
    own = Corpus(EVALUATION, TRAINING)
    assert corpus_of(Request(0), lambda: own) is own

    def never() -> Corpus:
        raise AssertionError("read for nothing")

    brought = corpus_of(Request(0, training=TRAINING, evaluation=EVALUATION), never)
    assert brought == Corpus(TRAINING, EVALUATION)


def test_calibration_is_a_seeded_draw_of_what_was_trained_on() -> None:
    """Some of the training rows with their labels, the same for the same seed."""
    corpus = Corpus(TRAINING, EVALUATION)
    drawn = corpus.calibration(3, seed=1)
    assert drawn == corpus.calibration(3, seed=1)
    labels = dict(zip(TRAINING.texts or (), TRAINING.labels or (), strict=True))
    assert [labels[text] for text in drawn.texts or ()] == list(drawn.labels or ())
    assert len(set(drawn.texts or ())) == 3
    assert len(corpus.calibration(9, seed=1)) == 4


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (("a", "b", "c", "d"), r"has 4 labels \(a, b, c, \.\.\.\); `weighbridge workloads` lists those that take more"),
        (("a", "a", "a", "a"), r"has 1 label \(a\); `weighbridge workloads` lists those that take more"),
    ],
)
def test_one_unit_needs_two_classes(labels: tuple[str, ...], sentence: str) -> None:
    """Two classes pass; more and fewer are refused with what was given and what would take them."""
    need_two_classes(Corpus(TRAINING, EVALUATION), "x")
    with pytest.raises(InputError, match=f"x tells two classes apart, and the training data {sentence}"):
        need_two_classes(Corpus(Rows(texts=TRAINING.texts, labels=labels), EVALUATION), "x")
