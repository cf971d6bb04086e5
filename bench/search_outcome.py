"""What a trial of a search gave, example by example and round by round, and how two trials compare."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .search_answers import Answers, ClassAnswers
from .search_findings import Bounded, Metric, Phase, TrialRow
from .stats import quantile_interval

_COVERAGE = 0.95
_ERROR = 0.05


@dataclass(frozen=True)
class Record:
    """One trial, raw: a line of the journal. `reason` says why it failed; only then is there no file of answers."""

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
        reason: why it failed; empty where it did not, and only then do answers and rounds hold anything.
        answers: what it answered.
        log_ratios: log of its time over that of the whole quantized variant, shape (rounds,); zeros of that one itself.
        whole_ms: milliseconds of a call of the whole quantized variant: the same in all trials of a search.
    """

    number: int
    phase: Phase
    kept: tuple[str, ...]
    seconds: float
    reason: str
    answers: Answers
    log_ratios: NDArray[np.float64]
    whole_ms: float

    @staticmethod
    def of(record: Record, answers: Answers, whole_ms: float) -> "Outcome":
        """What a trial gave."""
        logs = np.array(record.log_ratios)
        return Outcome(
            number=record.number,
            phase=record.phase,
            kept=record.kept,
            seconds=record.seconds,
            reason=record.reason,
            answers=answers,
            log_ratios=np.zeros_like(logs) if record.phase == "whole" else logs,
            whole_ms=whole_ms,
        )

    @property
    def ok(self) -> bool:
        """Whether it was built, answered and timed."""
        return not self.reason

    @property
    def examples(self) -> int:
        """How many examples it answered."""
        return self.answers.examples

    @property
    def difference(self) -> Bounded:
        """Its quality less the baseline's: more is better."""
        return self.answers.difference

    @property
    def kl(self) -> float:
        """How far its answers are from the float model's: the mean Kullback-Leibler divergence in nats."""
        return float(self.answers.kl.mean())

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
        quality = self.answers.quality
        told = replace(told, accuracy=quality.get("accuracy"), perplexity=quality.get("perplexity"))
        return replace(told, difference=self.difference, kl=self.kl, ms=self.ms)


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
    return Bounded(float(np.median(log_ratios)), *quantile_interval(log_ratios, 0.5, _COVERAGE))


@dataclass(frozen=True)
class Budget:
    """How much quality may be lost against the baseline, judged on so many choosing examples.

    Attributes:
        max_drop: accuracy, as a fraction; of a generator, perplexity that may be added, as a share of the baseline's.
        examples: of the choosing part.
        metric: which of the two it is.
        error: one-sided error of the bound that is held to it on the choosing part; the judging part decides later.
    """

    max_drop: float
    examples: int
    metric: Metric = "accuracy"
    error: float = _ERROR

    @property
    def least(self) -> float:
        """The least difference from the baseline that keeps it (search_answers.py)."""
        return -self.max_drop if self.metric == "accuracy" else -math.log1p(self.max_drop)

    @property
    def provable(self) -> bool:
        """Whether so many examples can show it at all: a candidate that answers as the baseline does would meet it."""
        same = np.ones(self.examples, np.bool_)
        return (
            self.metric == "perplexity"
            or ClassAnswers(same, same, np.zeros(0)).least_difference(self.error) >= self.least
        )

    def met(self, outcome: Outcome) -> bool:
        """Whether a trial keeps the budget: by its lower bound where that can be, else by its bare estimate."""
        if not outcome.ok:
            return False
        answers = outcome.answers
        return (answers.least_difference(self.error) if self.provable else answers.difference.value) >= self.least
