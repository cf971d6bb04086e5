"""What a trial of a search gave, example by example and round by round, and how two trials compare."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evidence import PairedAccuracy
from .predictions import predicted_classes
from .quality import probabilities
from .search_findings import Bounded, Phase, TrialRow
from .stats import quantile_interval, t_bounds, tango_bounds

_TAIL = 0.025
_BUDGET_ERROR = 0.05
"""One-sided error of the bound that the accuracy budget is held to on the choosing part; the judging part decides later."""
_LEAST_PROBABILITY = 1e-9


@dataclass(frozen=True)
class Record:
    """One trial, raw: a line of the journal. `reason` says why it failed; only then is there no file of scores."""

    number: int
    phase: Phase
    kept: tuple[str, ...]
    sampled: bool
    seconds: float
    reason: str = ""
    log_ratios: tuple[float, ...] = ()
    whole_ms: float = 0.0

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Record":
        """Read plain data back."""
        tuples = {name: tuple(data[name]) for name in ("kept", "log_ratios")}
        return Record(**{**{key: value for key, value in data.items() if key != "event"}, **tuples})


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trial on the first examples of the choosing part.

    Attributes:
        number: of the trial.
        phase: what it was tried for.
        kept: the layers left in float.
        seconds: what it took, its build included.
        reason: why it failed; empty where it did not, and only then do the arrays hold anything.
        right: whether each answer is the label, shape (examples,).
        baseline_right: the same of the baseline.
        kl: Kullback-Leibler divergence of each answer from the float model's, in nats, shape (examples,).
        log_ratios: log of its time over that of the whole INT8 variant, shape (rounds,); zeros of that one itself.
        whole_ms: milliseconds of a call of the whole INT8 variant: the same in all trials of a search.
    """

    number: int
    phase: Phase
    kept: tuple[str, ...]
    seconds: float
    reason: str
    right: NDArray[np.bool_]
    baseline_right: NDArray[np.bool_]
    kl: NDArray[np.float64]
    log_ratios: NDArray[np.float64]
    whole_ms: float

    @property
    def ok(self) -> bool:
        """Whether it was built, answered and timed."""
        return not self.reason

    @property
    def examples(self) -> int:
        """How many examples it answered."""
        return len(self.right)

    @property
    def difference(self) -> Bounded:
        """Its accuracy less the baseline's, by Tango's score interval."""
        return _paired(self.baseline_right, self.right)

    @property
    def ms(self) -> Bounded:
        """Milliseconds of a call, from the median round and its order statistics, which a disturbed round moves little.

        The rounds share one process, so that the interval leaves out what lasts as long as it does (placement in memory, up to
        0.5 %): the run that follows weighs in fresh processes.
        """
        found = typical(self.log_ratios)
        return Bounded(*(self.whole_ms * float(np.exp(log)) for log in (found.value, found.low, found.high)))

    def row(self) -> TrialRow:
        """The trial as it is reported."""
        told = TrialRow(self.number, self.phase, self.kept, self.examples, self.seconds, self.reason)
        if not self.ok:
            return told
        accuracy, kl = float(self.right.mean()), float(self.kl.mean())
        return replace(told, accuracy=accuracy, difference=self.difference, kl=kl, ms=self.ms)


@dataclass(frozen=True, eq=False)
class Reference:
    """What every trial is compared with, on the choosing part.

    Attributes:
        labels: the right classes, shape (examples,).
        baseline_right: whether the baseline's answers are, shape (examples,).
        float_scores: those of the float model, shape (examples, classes).
        whole_ms: milliseconds of a call of the whole INT8 variant.
    """

    labels: NDArray[np.int64]
    baseline_right: NDArray[np.bool_]
    float_scores: NDArray[np.float32]
    whole_ms: float

    def outcome(self, record: Record, scores: NDArray[np.float32] | None) -> Outcome:
        """What a trial gave; `scores` is None where it failed."""
        count = 0 if scores is None else len(scores)
        right, kl = np.zeros(0, np.bool_), np.zeros(0)
        if scores is not None:
            right = predicted_classes(scores) == self.labels[:count]
            kl = divergence(self.float_scores[:count], scores)
        is_whole = record.phase == "whole"
        return Outcome(
            number=record.number,
            phase=record.phase,
            kept=record.kept,
            seconds=record.seconds,
            reason=record.reason,
            right=right,
            baseline_right=self.baseline_right[:count],
            kl=kl,
            log_ratios=np.zeros(len(record.log_ratios)) if is_whole else np.array(record.log_ratios),
            whole_ms=self.whole_ms,
        )


def divergence(reference: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(reference || scores) of the class probabilities of each example, in nats; probabilities are kept 1e-9 from 0."""
    ours, theirs = (np.maximum(probabilities(each), _LEAST_PROBABILITY) for each in (scores, reference))
    found: NDArray[np.float64] = (theirs * (np.log(theirs) - np.log(ours))).sum(axis=1)
    return found


def returned_accuracy(after: Outcome, before: Outcome) -> Bounded:
    """Accuracy of one trial less that of another, on the examples that both answered."""
    shared = min(after.examples, before.examples)
    return _paired(before.right[:shared], after.right[:shared])


def returned_kl(after: Outcome, before: Outcome) -> Bounded:
    """How much nearer to the float model a trial is than another, in nats, on the examples that both answered."""
    shared = min(after.examples, before.examples)
    gained = before.kl[:shared] - after.kl[:shared]
    return Bounded(float(gained.mean()), *t_bounds(gained, _TAIL, _TAIL))


def cost(after: Outcome, before: Outcome) -> Bounded:
    """Milliseconds a call that a trial takes more than another.

    The bounds of a difference of two values from those of each, by square and add (G. Zou and A. Donner, Statistics in Medicine 27
    (2008) 1693-1702), on the logarithms.
    """
    ours, theirs = typical(after.log_ratios), typical(before.log_ratios)
    value = ours.value - theirs.value
    low = value - float(np.hypot(ours.value - ours.low, theirs.high - theirs.value))
    high = value + float(np.hypot(ours.high - ours.value, theirs.value - theirs.low))
    return Bounded(*(before.ms.value * float(np.expm1(log)) for log in (value, low, high)))


def typical(log_ratios: NDArray[np.float64]) -> Bounded:
    """The median of the rounds, shape (rounds,), between the order statistics that hold it at 95 %; that takes six rounds."""
    return Bounded(float(np.median(log_ratios)), *quantile_interval(log_ratios, 0.5, 1 - 2 * _TAIL))


def _paired(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Bounded:
    found = PairedAccuracy("", "accuracy", {}, before, after).interval("difference", _TAIL, _TAIL)
    return Bounded(found.value, found.low, found.high) if found else Bounded(0.0, -1.0, 1.0)


@dataclass(frozen=True)
class Budget:
    """How much accuracy may be lost against the baseline, as a fraction, judged on so many choosing examples."""

    max_drop: float
    examples: int

    @property
    def provable(self) -> bool:
        """Whether so many examples can show it at all: a candidate that answers as the baseline does would meet it."""
        return self.lower_bound(0, 0) >= -self.max_drop

    def met(self, outcome: Outcome) -> bool:
        """Whether a trial keeps the budget: by its lower bound where that can be, else by its bare estimate."""
        if not outcome.ok:
            return False
        gained = int((outcome.right & ~outcome.baseline_right).sum())
        lost = int((outcome.baseline_right & ~outcome.right).sum())
        found = self.lower_bound(gained, lost) if self.provable else (gained - lost) / self.examples
        return found >= -self.max_drop

    def lower_bound(self, gained: int, lost: int) -> float:
        """Tango's lower bound of the difference of accuracies, with a one-sided error of 5 %."""
        return tango_bounds(gained, lost, self.examples, _BUDGET_ERROR, _BUDGET_ERROR)[0]
