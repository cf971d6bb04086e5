"""Which class is taken for which, and how often a model is right where it says how sure it is: counts of the predictions."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .predictions import ClassPredictions
from .quality import BINS, probabilities
from .results import Confusion, ReliabilityBin

MOST_PAIRS = 200
"""So many pairs of classes are kept, the commonest over all variants: every pair of up to fourteen classes."""


def confusions(classes: Mapping[str, ClassPredictions], class_names: Sequence[str] = ()) -> Iterator[Confusion]:
    """The wrong answers of every variant by label and prediction, the commonest pairs first; pairs without any are left out.

    Where classes have no names their numbers stand for them.
    """
    labelled = {name: answers for name, answers in classes.items() if answers.labelled}
    if not labelled:
        return
    wrong = {name: _wrong_pairs(answers) for name, answers in labelled.items()}
    pairs, counts = np.unique(np.concatenate(list(wrong.values())), axis=0, return_counts=True)
    for place in np.argsort(-counts, kind="stable")[:MOST_PAIRS]:
        label, prediction = (named(each, class_names) for each in pairs[place].tolist())
        for name, found in wrong.items():
            n = int((found == pairs[place]).all(axis=1).sum())
            if n:
                yield Confusion(name, label, prediction, n)


def _wrong_pairs(answers: ClassPredictions) -> NDArray[np.int64]:
    """Label and prediction of every wrong answer, shape (wrong answers, 2)."""
    return np.stack([answers.labels, answers.predicted], axis=1)[~answers.correct]


def named(index: int, class_names: Sequence[str]) -> str:
    """A class in words: its name, else its number; empty for what is no class (-1)."""
    if index < 0:
        return ""
    return class_names[index] if index < len(class_names) else str(index)


def reliability(classes: Mapping[str, ClassPredictions]) -> Iterator[ReliabilityBin]:
    """Confidence and accuracy of every variant in equal-width bins of confidence: those of expected_calibration_error.

    The confidence is the probability of the predicted class. Empty bins are left out, and so are variants without labels or with a
    score that is not finite.
    """
    for name, answers in classes.items():
        if not answers.labelled:
            continue
        table = probabilities(answers.scores)
        if np.isfinite(table).all():
            yield from _bins(name, table[np.arange(len(table)), answers.predicted], answers.correct)


def _bins(name: str, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Iterator[ReliabilityBin]:
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    for place in np.unique(places).tolist():
        inside = places == place
        means = float(confidence[inside].mean()), float(right[inside].mean())
        yield ReliabilityBin(name, place / BINS, (place + 1) / BINS, int(inside.sum()), *means)
