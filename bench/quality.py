"""The quality metrics of classifiers: the value of each, and how far every example moves it. numpy and scipy.special alone.

Each metric is a function of the shares that the examples have in the data. Its influence function (F. Hampel, Journal of the
American Statistical Association 69 (1974) 383-393) says how the value moves as one example's share grows; value + influence,
averaged, behaves as the metric itself up to terms of order 1/n. So every metric becomes a mean, and one kind of bound serves
all of them (bounded_mean.py). Definitions are scikit-learn's with zero_division = 0, over the classes that occur among the
labels: a class that is only ever predicted does not change what is averaged from variant to variant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .bounded_mean import BoundedMean

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]

BINS = 15
"""Equal-width bins of confidence for the expected calibration error."""
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities are kept this far from 0 and 1 under a logarithm, as scikit-learn does for 32-bit scores."""
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class Estimate:
    """A metric of one model.

    Attributes:
        value: the metric.
        influence: how far each example moves it, shape (examples,); sums to 0.
        flipped: the influence that each example would have, had the model's two best classes changed places, shape (examples,);
            of what has no classes, had its value been the least or the most that it can be, shape (2, examples).
    """

    value: float
    influence: Floats
    flipped: Floats

    @property
    def standard_error(self) -> float:
        """The standard error of the value, by the delta method."""
        return float(np.sqrt(np.square(self.influence).mean() / len(self.influence)))

    @property
    def mean(self) -> BoundedMean:
        """The mean over examples that behaves as the metric; the worst that one more could be is the worst that a flip brings."""
        worst, best = float(self.flipped.min()), float(self.flipped.max())
        return BoundedMean.of(self.value + self.influence, self.value + worst, self.value + best)


@dataclass(frozen=True)
class _Counts:
    """Labels and the two best classes of every example, shape (examples,); sums by class, shape (classes,)."""

    labels: Classes
    predicted: Classes
    runner_up: Classes
    support: Floats
    predictions: Floats
    hits: Floats

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """Which classes occur among the labels."""
        present: NDArray[np.bool_] = self.support > 0
        return present


@dataclass(frozen=True)
class _Gradient:
    """A metric's value and its derivatives by support, predictions and hits of each class, shape (classes,)."""

    value: float
    by_support: Floats
    by_predictions: Floats
    by_hits: Floats


@dataclass(frozen=True)
class _Scores:
    """Probabilities (examples, classes) and what is read off them, shape (examples,)."""

    labels: Classes
    predicted: Classes
    runner_up: Classes
    table: Floats
    of_label: Floats
    of_label_flipped: Floats


def are_probabilities(scores: NDArray[np.float32]) -> bool:
    """Whether scores (examples, classes) are probabilities rather than logits, as the whole array says.

    They are where all lie within [0, 1] and each row sums to 1; a single column within [0, 1] is that of class 1.
    """
    inside = bool((scores >= 0).all() and (scores <= 1).all())
    sums = scores.astype(np.float64).sum(axis=1)
    return inside and (scores.shape[1] == 1 or bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all()))


def probabilities(scores: NDArray[np.float32], *, as_they_are: bool | None = None) -> Floats:
    """Scores (examples, classes) as probabilities, a single column as the two of a binary model.

    `as_they_are` says that they are probabilities, or logits; None: the array itself decides (`are_probabilities`).
    """
    table = scores.astype(np.float64)
    given = are_probabilities(scores) if as_they_are is None else as_they_are
    if table.shape[1] == 1:
        of_one = table[:, 0] if given else special.expit(table[:, 0])
        return np.stack([1 - of_one, of_one], axis=1)
    found: Floats = table if given else special.softmax(table, axis=1)
    return found


def estimates(
    labels: Classes, predicted: Classes, scores: NDArray[np.float32], *, as_they_are: bool | None = None
) -> dict[str, Estimate]:
    """Every metric of a model that is defined on these examples, by name.

    Left out are the metrics of probabilities where a score is not finite, and roc_auc where all labels are of one class.

    Args:
        labels: the right classes, shape (examples,), none missing.
        predicted: the model's classes, shape (examples,).
        scores: the model's scores, shape (examples, classes); one column for a binary model.
        as_they_are: how the scores are read, see `probabilities`.
    """
    table = probabilities(scores, as_they_are=as_they_are)
    classes = 1 + int(max(labels.max(), predicted.max(), table.shape[1] - 1))
    if classes > table.shape[1]:
        table = np.pad(table, ((0, 0), (0, classes - table.shape[1])))
    counts = _counts(labels, predicted, _runner_up(table, predicted), classes)
    found = {name: _of_counts(counts, gradient(counts)) for name, gradient in _OF_COUNTS.items()}
    if np.isfinite(table).all():
        read = _scores(counts, table)
        made = {name: metric(read) for name, metric in _OF_SCORES.items()}
        found |= {name: each for name, each in made.items() if each is not None}
    return found


def _runner_up(table: Floats, predicted: Classes) -> Classes:
    """The best class that is not the predicted one."""
    others = table.copy()
    others[np.arange(len(others)), predicted] = -np.inf
    return np.asarray(others.argmax(axis=1), dtype=np.int64)


# --- metrics of predicted classes: functions of support, predictions and hits of each class ---


def _counts(labels: Classes, predicted: Classes, runner_up: Classes, classes: int) -> _Counts:
    def count(of: Classes) -> Floats:
        return np.bincount(of, minlength=classes).astype(np.float64)

    hits = count(labels[labels == predicted])
    return _Counts(labels, predicted, runner_up, count(labels), count(predicted), hits)


def _of_counts(counts: _Counts, gradient: _Gradient) -> Estimate:
    """By the chain rule: an example adds to the support of its label, the predictions of its class, and perhaps the hits."""

    def influence(predicted: Classes) -> Floats:
        hit = np.where(predicted == counts.labels, gradient.by_hits[counts.labels], 0.0)
        moved = gradient.by_support[counts.labels] + gradient.by_predictions[predicted] + hit
        found: Floats = len(counts.labels) * moved
        return found

    return Estimate(gradient.value, influence(counts.predicted), influence(counts.runner_up))


def _recall(counts: _Counts) -> _Gradient:
    """Mean over classes of hits / support."""
    support = np.where(counts.occurs, counts.support, 1.0)
    each = counts.occurs / counts.occurs.sum()
    recall = counts.hits / support
    return _Gradient(float(each @ recall), -each * recall / support, np.zeros_like(each), each / support)


def _precision(counts: _Counts) -> _Gradient:
    """Mean over classes of hits / predictions; 0 for a class that is never predicted, which a first hit would bring to 1."""
    predictions = np.maximum(counts.predictions, 1.0)
    each = counts.occurs / counts.occurs.sum()
    precision = counts.hits / predictions
    moved = each / predictions
    return _Gradient(float(each @ precision), np.zeros_like(each), -precision * moved, moved)


def _f1(counts: _Counts) -> _Gradient:
    """Mean over classes of 2 hits / (support + predictions)."""
    each = counts.occurs / counts.occurs.sum()
    both = np.where(counts.occurs, counts.support + counts.predictions, 1.0)
    score = 2 * counts.hits / both
    moved = -each * score / both
    return _Gradient(float(each @ score), moved, moved, 2 * each / both)


def _f1_weighted(counts: _Counts) -> _Gradient:
    """F1 of the classes, weighted by their support."""
    total = counts.support.sum()
    both = np.where(counts.occurs, counts.support + counts.predictions, 1.0)
    score = 2 * counts.hits / both
    weight = counts.support / total
    value = float(weight @ score)
    moved = -weight * score / both
    return _Gradient(value, moved + (score - value) / total, moved, 2 * weight / both)


# --- metrics of probabilities ---


def _scores(counts: _Counts, table: Floats) -> _Scores:
    rows = np.arange(len(table))
    best, second = table[rows, counts.predicted], table[rows, counts.runner_up]
    of_label = table[rows, counts.labels]
    flipped = np.where(
        counts.labels == counts.predicted, second, np.where(counts.labels == counts.runner_up, best, of_label)
    )
    return _Scores(counts.labels, counts.predicted, counts.runner_up, table, of_label, flipped)


def _mean(loss: Floats, flipped: Floats) -> Estimate:
    value = float(loss.mean())
    return Estimate(value, loss - value, flipped - value)


def _log_loss(scores: _Scores) -> Estimate:
    """Mean of -ln of the label's probability."""

    def loss(probability: Floats) -> Floats:
        return -np.log(np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))

    return _mean(loss(scores.of_label), loss(scores.of_label_flipped))


def _brier(scores: _Scores) -> Estimate:
    """Mean squared distance of the probabilities from the label's indicator; half of it for two classes."""
    squares = np.square(scores.table).sum(axis=1) + 1
    half = 0.5 if scores.table.shape[1] == 2 else 1.0  # noqa: PLR2004 - binary: the probability of class 1 alone
    return _mean(half * (squares - 2 * scores.of_label), half * (squares - 2 * scores.of_label_flipped))


def _mse(scores: _Scores) -> Estimate:
    """Mean over examples and classes of the squared distance of the probability from the label's indicator."""
    squares, classes = np.square(scores.table).sum(axis=1) + 1, scores.table.shape[1]
    return _mean((squares - 2 * scores.of_label) / classes, (squares - 2 * scores.of_label_flipped) / classes)


def _rmse(scores: _Scores) -> Estimate:
    """Root of the mse; its influence is the mse's over twice the root, and tells nothing where that is 0."""
    mse = _mse(scores)
    root = float(np.sqrt(max(mse.value, 0.0)))
    scale = 0.0 if root == 0 else 1 / (2 * root)
    return Estimate(root, scale * mse.influence, scale * mse.flipped)


def _expected_calibration_error(scores: _Scores) -> Estimate:
    """Mean over bins of |sum of (confidence - right)|: each bin's gap with the sign that it has in this sample."""
    confidence = scores.table[np.arange(len(scores.labels)), scores.predicted]
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = confidence - (scores.predicted == scores.labels)
    sums = np.bincount(bins, gaps, BINS)
    signs = np.where(sums >= 0, 1.0, -1.0)[bins]
    value = float(np.abs(sums).sum() / len(gaps))
    flipped = confidence - (scores.runner_up == scores.labels)
    return Estimate(value, signs * gaps - value, signs * flipped - value)


def _roc_auc(scores: _Scores) -> Estimate | None:
    """Of class 1 for two classes, else the mean over classes of one against the rest; None where no class has a rest."""
    columns = [1] if scores.table.shape[1] == 2 else range(scores.table.shape[1])  # noqa: PLR2004 - binary
    support = np.bincount(scores.labels, minlength=scores.table.shape[1])
    parts = [_auc_of_class(scores, each) for each in columns if 0 < support[each] < len(scores.labels)]
    if not parts:
        return None
    return Estimate(
        float(np.mean([part.value for part in parts])),
        np.mean([part.influence for part in parts], axis=0),
        np.mean([part.flipped for part in parts], axis=0),
    )


def _auc_of_class(scores: _Scores, column: int) -> Estimate:
    """The area of one class: the share of pairs in the right order, a tie counts half.

    Its influence is the placement of each example among those of the other side (E. DeLong and others, Biometrics 44 (1988)
    837-845).
    """
    given = scores.table[:, column]
    inside = scores.labels == column
    positive, negative = np.sort(given[inside]), np.sort(given[~inside])
    placed = np.empty_like(given)
    placed[inside] = _share_below(negative, given[inside])
    placed[~inside] = 1 - _share_below(positive, given[~inside])
    value = float(placed[inside].mean())
    swapped, rows = placed.copy(), np.arange(len(given))
    for mine, other in ((scores.predicted, scores.runner_up), (scores.runner_up, scores.predicted)):
        for side, opposite in ((inside, negative), (~inside, positive)):
            moved = rows[(mine == column) & side]
            below = _share_below(opposite, scores.table[moved, other[moved]])
            swapped[moved] = below if opposite is negative else 1 - below
    share = np.where(inside, len(positive), len(negative)) / len(given)
    return Estimate(value, (placed - value) / share, (swapped - value) / share)


def _share_below(ordered: Floats, points: Floats) -> Floats:
    """The share of the ordered values below each point, those equal to it by half."""
    twice = np.searchsorted(ordered, points, "left") + np.searchsorted(ordered, points, "right")
    found: Floats = twice / (2 * len(ordered))
    return found


_OF_COUNTS: dict[str, Callable[[_Counts], _Gradient]] = {
    "balanced_accuracy": _recall,
    "precision_macro": _precision,
    "recall_macro": _recall,
    "f1_macro": _f1,
    "f1_weighted": _f1_weighted,
}
_OF_SCORES: dict[str, Callable[[_Scores], Estimate | None]] = {
    "roc_auc": _roc_auc,
    "log_loss": _log_loss,
    "brier": _brier,
    "expected_calibration_error": _expected_calibration_error,
    "mse": _mse,
    "rmse": _rmse,
}

NAMES = (*_OF_COUNTS, *_OF_SCORES)
"""The metrics of this module."""
