"""Weigh any two functions against each other: the same rounds, control, interval and judge as for model variants."""

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import ConfigError, InputError, one_of
from .deciding import JudgingPlan
from .evidence import ReplicateRatios
from .evidence_of_run import speed_evidence
from .functions import Function
from .isolation import CONDITIONS, KEY, Isolation, way_of
from .judge import IMPLAUSIBLE_SPEED, PRECISE_ENOUGH, Judgement, VariantState, judge
from .looks import LOOKS
from .metrics import METRICS, Metric
from .plan import Plan, make_plan
from .results import Comparison, Control, Verdict
from .rules import Rule
from .samples import CONTROL, Replicate
from .sentences import quantity
from .session import only_one_weighs
from .speed import of_shape, timed_metrics

SHORT_CALL_MS = 0.01
"""Below it the reading of the clock, some 0.14 us a call, is more than 1 % of what is read."""


@dataclass(frozen=True)
class Weighing:
    """What the weighing of two functions found.

    Attributes:
        verdict: pass, fail or inconclusive; not_judged where there was no limit.
        sentence: the verdict with its metric, interval, limit and number of replicates.
        comparison: the ratio candidate / baseline with its bounds, and the ratio of each replicate.
        control: the ratio of the baseline's twin to the baseline, likewise.
        isolation: `processes` where each function had its own, `in-process` where both shared this one.
        notices: sentences that a reader should see beside the verdict.
        samples: the raw timed calls of each replicate, thousands of numbers: left out where the rest is printed.
        suspicious: whether a gain is too good to be believed without a look; a notice says so.
    """

    verdict: Verdict | Literal["not_judged"]
    sentence: str
    comparison: Comparison
    control: Control
    isolation: Isolation
    notices: tuple[str, ...]
    samples: tuple[Replicate, ...] = field(repr=False)
    suspicious: bool = False

    def milliseconds(self, name: str) -> tuple[NDArray[np.float64], ...]:
        """The timed calls of a function, or of `<control>`, in milliseconds: an array of shape (calls,) a replicate."""
        return tuple(replicate.timed[name, KEY][:, 0] for replicate in self.samples)


def weigh(
    a: Function,
    b: Function,
    *,
    max_ratio: float | None = 1.03,
    metric: str = "latency_p50",
    error_rate: float = 0.01,
    max_seconds: float = 10.0,
    names: tuple[str, str] | None = None,
    threads: int = 1,
    seed: int = 0,
    clock_ns: Callable[[], int] | None = None,
) -> Weighing:
    """Weigh `b`, the candidate, against `a`, the baseline; both are called without arguments.

    Functions that a fresh process can import by name each get processes of their own, fresh ones for every replicate. Where
    one of the two cannot be (a lambda, a closure, a method, anything in `__main__`), both run in this process, and a notice
    says that their isolation is weaker.

    Args:
        a: the baseline.
        b: the candidate.
        max_ratio: the highest ratio of `metric`, b / a, that passes; None to judge nothing.
        metric: a latency: latency_mean, latency_p50, latency_p90, ...
        error_rate: chance of a wrong pass, and of a wrong fail.
        max_seconds: sampling time; starting processes is not counted.
        names: of a and b, in sentences and samples; default their `__name__` where these differ.
        threads: compute threads that the libraries of each process may use; this process keeps its own.
        seed: of the order of the visits.
        clock_ns: a clock of one's own, which keeps both functions in this process; default `time.perf_counter_ns`.

    Raises:
        ConfigError: an argument that cannot be meant.
        InputError: calls too short for the clock, or a percentile that needs more calls than the time buys.
        WorkerError: a function raised, crashed or hung; the text names it and what it raised.
    """
    _need_outermost()
    for which, function in (("a", a), ("b", b)):
        _need_callable(which, function)
    _need_numbers(max_ratio, error_rate, max_seconds, threads, seed)
    question = _Question(*_pair(names or _names(a, b)), _metric(metric), max_ratio, error_rate)
    told: list[str] = []
    with only_one_weighs(told.append):
        way, call_ms = way_of({question.baseline: a, question.candidate: b}, threads, clock_ns)
        plan = _plan(question, call_ms, max_seconds)
        taken = way.take(plan, seed, lambda replicates: question.decided(replicates, plan))
    notices = (*told, *taken.notices, *_over_time(plan), *_short_calls(call_ms))
    return question.answer(taken.replicates, plan, way.isolation, notices)


@dataclass(frozen=True)
class _Question:
    """What is asked of the judge: one metric of a candidate against a baseline, and the limit of its ratio, if any."""

    baseline: str
    candidate: str
    metric: Metric
    max_ratio: float | None
    error_rate: float

    @property
    def rule(self) -> Rule:
        """The limit as a rule; without one, a rule that only lends its words."""
        return Rule(self.metric.name, "ratio", self.max_ratio or 1.0, maximum=True)

    def judged(self, replicates: Sequence[Replicate], plan: Plan) -> Judgement:
        """What the judge says of the replicates so far."""
        evidence = [
            replace(piece, conditions={})  # a function has one shape, which no sentence need name
            for piece in speed_evidence(replicates, self.baseline, "classifier", planned=plan.replicates)
            if isinstance(piece, ReplicateRatios) and piece.metric == self.metric.name
        ]
        return judge(
            [] if self.max_ratio is None else [self.rule],
            evidence,
            {self.baseline: VariantState("ok"), self.candidate: VariantState("ok")},
            baseline=self.baseline,
            error_rate=self.error_rate,
            plan=JudgingPlan(plan.seconds_per_replicate, plan.percentile_seconds, plan.max_seconds),
        )

    def decided(self, replicates: Sequence[Replicate], plan: Plan) -> bool:
        """Whether further replicates would change nothing; without a limit, whether the ratio is known well enough."""
        judgement = self.judged(replicates, plan)
        if self.max_ratio is not None:
            return judgement.decided
        (found,) = judgement.comparisons
        return found.high - found.low <= 2 * PRECISE_ENOUGH * found.value

    def answer(
        self, replicates: tuple[Replicate, ...], plan: Plan, isolation: Isolation, notices: Sequence[str]
    ) -> Weighing:
        """The judge's words on all replicates."""
        judgement = self.judged(replicates, plan)
        (found,), (control,) = judgement.comparisons, judgement.control
        gate = next(iter(judgement.gates), None)
        if gate is None:
            return Weighing("not_judged", self._unjudged(found), found, control, isolation, tuple(notices), replicates)
        if gate.suspicious:
            doubt = f"{self.candidate} is over {IMPLAUSIBLE_SPEED:g} times as fast: look whether it does the work."
            notices = (*notices, doubt)
        # The judge speaks of a run's config; here the same is an argument.
        sentence = gate.sentence.replace("measure.max_seconds", "max_seconds").replace(" max = ", " max_ratio = ")
        return Weighing(
            gate.verdict, sentence, found, control, isolation, tuple(notices), replicates, suspicious=gate.suspicious
        )

    def _unjudged(self, found: Comparison) -> str:
        value, low, high = (quantity(self.rule, each) for each in (found.value, found.low, found.high))
        return (
            f"{self.candidate}: {self.metric.name} {value} [{low}, {high}] of {self.baseline} "
            f"({found.replicates} replicates); no limit was given: nothing was judged"
        )


def _metric(name: str) -> Metric:
    """The latency of that name.

    Raises:
        ConfigError: it is none, or not one that calls of a function give.
    """
    allowed = {each.name: each for each in timed_metrics("classifier") if each.direction == "lower"}
    if name in allowed:
        return allowed[name]
    if name in METRICS:
        raise ConfigError(
            f"metric '{name}' cannot be weighed between two functions. Allowed: {', '.join(sorted(allowed))}"
        )
    raise ConfigError(one_of("metric", name, allowed))


def _names(a: Function, b: Function) -> tuple[str, str]:
    """The functions' own names where both have one and they differ, else a and b."""
    first, second = getattr(a, "__name__", ""), getattr(b, "__name__", "")
    return (first, second) if first and second and first != second else ("a", "b")


def _pair(names: tuple[str, str]) -> tuple[str, str]:
    if len(names) != 2 or len({*names, CONTROL, ""}) != 4:  # noqa: PLR2004 - two names beside the two that cannot be
        raise ConfigError(f"weigh: names = {names}; give two different ones, neither empty nor {CONTROL}")
    return names


def _plan(question: _Question, call_ms: dict[str, float], max_seconds: float) -> Plan:
    """What the time buys, for the baseline, its twin and the candidate.

    Raises:
        InputError: calls too short for the clock, or too few of them for the percentile.
    """
    for name, length in call_ms.items():
        if length <= 0:
            raise InputError(f"a call of {name} takes no time that the clock can tell: let it repeat its work")
    needed = of_shape(question.metric, CONDITIONS).calls_needed
    lengths = [call_ms[question.baseline], *call_ms.values()]
    plan = make_plan([CONDITIONS], {KEY: lengths}, max_seconds=max_seconds, least_calls={KEY: needed})
    if plan.percentile_calls:
        raise InputError(
            f"{question.metric.name} needs {needed} timed calls a replicate, more than max_seconds = {max_seconds:g} buys: "
            f"give max_seconds = {math.ceil(plan.percentile_seconds)}, or take latency_mean or a lower percentile"
        )
    return plan


def _over_time(plan: Plan) -> Iterator[str]:
    least = LOOKS[0] * plan.seconds_per_replicate
    if least > 1.05 * plan.max_seconds:
        yield f"Sampling took about {least:.0f} s, over max_seconds = {plan.max_seconds:g}: fewer replicates could not be judged."


def _short_calls(call_ms: dict[str, float]) -> Iterator[str]:
    shortest = min(call_ms, key=call_ms.__getitem__)
    if call_ms[shortest] < SHORT_CALL_MS:
        yield (
            f"A call of {shortest} takes {1e3 * call_ms[shortest]:.2g} us, of which reading the clock is a part: the ratio "
            "is drawn to 1. Let each function repeat its work."
        )


def _need_outermost() -> None:
    """Refuse to weigh within a worker: the module that it imports must not start the weighing again."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main is not None and main.name == f"{__package__}.worker":
        raise ConfigError("weigh() was called by importing a module; put the call under `if __name__ == '__main__':`")


def _need_callable(which: str, function: Function) -> None:
    if not callable(function):
        raise ConfigError(
            f"weigh: {which} is of type {type(function).__name__}; give a function without arguments, as in lambda: model(x)"
        )
    if (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise ConfigError(
            f"weigh: {which} is a generator or async function: a call of it does no work; wrap it in one that does"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # a builtin that does not tell its arguments
    try:
        signature.bind()
    except TypeError as error:
        raise ConfigError(
            f"weigh: {which} cannot be called without arguments ({error}); bind them, as in lambda: model(x)"
        ) from error


def _need_numbers(max_ratio: float | None, error_rate: float, max_seconds: float, threads: int, seed: int) -> None:
    needs = (
        (
            "max_ratio",
            max_ratio,
            max_ratio is None or 0 < max_ratio < math.inf,
            "a number above 0, or None to judge nothing",
        ),
        ("error_rate", error_rate, 0 < error_rate < 0.5, "a number between 0 and 0.5"),  # noqa: PLR2004 - as in a config
        ("max_seconds", max_seconds, 0 < max_seconds < math.inf, "a number above 0"),
        ("threads", threads, threads >= 1, "a whole number of at least 1"),
        ("seed", seed, seed >= 0, "a whole number of at least 0"),
    )
    for name, given, fine, allowed in needs:
        if not fine:
            raise ConfigError(f"weigh: {name} = {given}; it must be {allowed}")
