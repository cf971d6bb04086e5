"""What a trial of a search answered, beside what the baseline and the float model did: classes, or likelihoods of text.

Both kinds of answers compare in one way, in which more is better: accuracy, or the likelihood of a token in nats, which is less
by the log of the ratio of perplexities.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evidence import PairedAccuracy, Perplexity
from .predictions import ClassPredictions, WindowScores, predicted_classes
from .quality import probabilities
from .scoring import divergences, places_of
from .search_findings import Bounded, Metric
from .stats import bounded_exp, t_bounds, tango_bounds
from .workloads.base import Prepared

CLASSES_FILE, WINDOWS_FILE = "scores.npy", "scored.npz"
_TAIL = 0.025
_LEAST_PROBABILITY = 1e-9


@dataclass(frozen=True, eq=False)
class ClassAnswers:
    """Answers to the first examples of a part.

    Attributes:
        right: whether each is the label, shape (examples,).
        baseline_right: the same of the baseline.
        kl: Kullback-Leibler divergence of each from the float model's, in nats, shape (examples,).
    """

    right: NDArray[np.bool_]
    baseline_right: NDArray[np.bool_]
    kl: NDArray[np.float64]

    @property
    def examples(self) -> int:
        """How many examples were answered."""
        return len(self.right)

    @property
    def quality(self) -> dict[Metric, float]:
        """Their accuracy."""
        return {"accuracy": float(self.right.mean())}

    @property
    def difference(self) -> Bounded:
        """Accuracy less the baseline's, by Tango's score interval."""
        return _paired(self.baseline_right, self.right)

    def least_difference(self, error: float) -> float:
        """Tango's lower bound of it, with a one-sided error."""
        gained = int((self.right & ~self.baseline_right).sum())
        lost = int((self.baseline_right & ~self.right).sum())
        return tango_bounds(gained, lost, self.examples, error, error)[0]

    def over(self, other: Any) -> Bounded:
        """Accuracy less that of another trial's ClassAnswers, on the examples that both answered."""
        shared = min(self.examples, other.examples)
        return _paired(other.right[:shared], self.right[:shared])


@dataclass(frozen=True, eq=False)
class WindowAnswers:
    """Likelihoods of the windows of a part.

    Attributes:
        nll: summed -ln p of the scored tokens of each window, shape (windows,).
        baseline_nll: the same of the baseline.
        tokens: how many those are, shape (windows,).
        kl: mean Kullback-Leibler divergence of each window's next tokens from the float model's, in nats, shape (windows,).
    """

    nll: NDArray[np.float64]
    baseline_nll: NDArray[np.float64]
    tokens: NDArray[np.float64]
    kl: NDArray[np.float64]

    @property
    def examples(self) -> int:
        """How many windows were scored."""
        return len(self.nll)

    @property
    def quality(self) -> dict[Metric, float]:
        """The perplexity."""
        return {"perplexity": bounded_exp(float(self.nll.sum() / self.tokens.sum()))}

    @property
    def difference(self) -> Bounded:
        """The log of the baseline's perplexity less that of its own, by evidence.Perplexity's interval."""
        return _log_ratio(self.baseline_nll, self.nll, self.tokens, _TAIL)

    def least_difference(self, error: float) -> float:
        """The lower bound of it, with a one-sided error."""
        return _log_ratio(self.baseline_nll, self.nll, self.tokens, error).low

    def over(self, other: Any) -> Bounded:
        """The log of the perplexity of another trial's WindowAnswers less that of its own."""
        return _log_ratio(other.nll, self.nll, self.tokens, _TAIL)


Answers = ClassAnswers | WindowAnswers


def returned_kl(after: Answers, before: Answers) -> Bounded:
    """How much nearer to the float model one trial is than another, in nats, on what both answered."""
    shared = min(len(after.kl), len(before.kl))
    gained = before.kl[:shared] - after.kl[:shared]
    return Bounded(float(gained.mean()), *t_bounds(gained, _TAIL, _TAIL))


@dataclass(frozen=True, eq=False)
class ClassReference:
    """What the trials of a classifier are compared with: labels, where the baseline is right, the float model's scores."""

    labels: NDArray[np.int64]
    baseline_right: NDArray[np.bool_]
    float_scores: NDArray[np.float32]

    def answers(self, place: Path) -> ClassAnswers:
        """What the trial in a folder answered."""
        scores = np.load(place / CLASSES_FILE)
        count = len(scores)
        right = predicted_classes(scores) == self.labels[:count]
        return ClassAnswers(right, self.baseline_right[:count], divergence(self.float_scores[:count], scores))

    def none(self) -> ClassAnswers:
        """The answers of a trial that failed."""
        return ClassAnswers(np.zeros(0, np.bool_), np.zeros(0, np.bool_), np.zeros(0))


@dataclass(frozen=True, eq=False)
class WindowReference:
    """What the trials of a generator are compared with: the baseline's likelihoods, the float model's next tokens.

    Attributes:
        baseline: its likelihoods of the windows.
        float_next_tokens: the float model's log-probabilities, shape (places, vocabulary).
        windows: the window of each place, shape (places,).
    """

    baseline: WindowScores
    float_next_tokens: NDArray[np.float32]
    windows: NDArray[np.int64]

    def answers(self, place: Path) -> WindowAnswers:
        """What the trial in a folder answered; its divergences are there, or its next tokens, from which they come."""
        with np.load(place / WINDOWS_FILE) as found:
            kl = found["kl"] if "kl" in found else divergences(self.float_next_tokens, found["next_tokens"])
            of_windows = [kl[self.windows == window].mean() for window in np.unique(self.windows)]
            return WindowAnswers(found["nll"], self.baseline.nll, self.baseline.tokens, np.array(of_windows))

    def none(self) -> WindowAnswers:
        """The answers of a trial that failed."""
        return WindowAnswers(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))


Reference = ClassReference | WindowReference


def reference_of(baseline: ClassPredictions | WindowScores, part: Prepared, float_trial: Path) -> Reference:
    """What trials on a part are compared with: the baseline's answers to it, and those of the float model's trial."""
    if isinstance(baseline, ClassPredictions):
        return ClassReference(baseline.labels, baseline.correct, np.load(float_trial / CLASSES_FILE))
    with np.load(float_trial / WINDOWS_FILE) as found:
        next_tokens = found["next_tokens"]
    places = places_of(part.arrays("scoring", 0)["scored"], next_tokens.shape[1])
    return WindowReference(baseline, next_tokens, places[:, 0])


def divergence(reference: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(reference || scores) of the class probabilities of each example, in nats; probabilities are kept 1e-9 from 0."""
    ours, theirs = (np.maximum(probabilities(each), _LEAST_PROBABILITY) for each in (scores, reference))
    found: NDArray[np.float64] = (theirs * (np.log(theirs) - np.log(ours))).sum(axis=1)
    return found


def keep_divergences(place: Path, float_trial: Path) -> None:
    """Put the divergences from the float model's next tokens in the place of a trial's own, which are many megabytes."""
    with np.load(place / WINDOWS_FILE) as found, np.load(float_trial / WINDOWS_FILE) as theirs:
        nll, kl = found["nll"], divergences(theirs["next_tokens"], found["next_tokens"])
    np.savez(place / WINDOWS_FILE, nll=nll, kl=kl)


def _paired(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Bounded:
    found = PairedAccuracy("", "accuracy", {}, before, after).interval("difference", _TAIL, _TAIL)
    return Bounded(found.value, found.low, found.high) if found else Bounded(0.0, -1.0, 1.0)


def _log_ratio(
    before: NDArray[np.float64], after: NDArray[np.float64], tokens: NDArray[np.float64], tail: float
) -> Bounded:
    found = Perplexity("", "perplexity", {}, before, after, tokens).interval("ratio", tail, tail)
    if found is None:
        return Bounded(0.0, -np.inf, np.inf)
    return Bounded(*(-float(np.log(each)) for each in (found.value, found.high, found.low)))
