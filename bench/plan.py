"""What the time budget buys: settle and timed calls a visit, rounds a replicate, replicates in all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..optimize.plain_data import checked
from .looks import LOOKS
from .metrics import END_TO_END, Conditions
from .samples import CONTROL, Replicate, key_of

_FULL_ROUNDS = 15
"""A replicate's own differences soon outweigh what more rounds would average out; see the table of docs/weighing.md."""
_LEAST_ROUNDS = 5
_INSTANCE_DIFFERENCE = 0.005
"""Two equal processes differ by up to so much for as long as they live."""
_SETTLE_MS = 12.0
_VISIT_MS = 50.0
_REPLICATES_AIMED_AT = 8
_ARRIVALS = (10, 30)
"""Requests of a visit at a given rate: a queue needs a few to form, and each visit starts with an empty one."""
_ARRIVAL_ROUNDS = 5


@dataclass(frozen=True)
class ShapePlan:
    """How one shape is weighed: `settle` recorded but untimed calls, then `timed` calls a visit; `rounds` a replicate."""

    conditions: Conditions
    settle: int
    timed: int
    rounds: int
    round_seconds: float

    @property
    def key(self) -> str:
        """The shape's conditions as one text."""
        return key_of(self.conditions)


@dataclass(frozen=True)
class Plan:
    """How a run is weighed, decided before it starts."""

    shapes: tuple[ShapePlan, ...]
    seconds_per_replicate: float
    replicates: int
    """Most replicates: the last look that the budget reaches, at least 4."""
    max_seconds: float
    percentile_calls: int = 0
    percentile_seconds: float = 0.0
    """Where a rule's percentile needs more timed calls a replicate than the budget buys: how many, and the seconds in all."""

    @property
    def longest_visit_seconds(self) -> float:
        """No visit is planned to take longer: that of one variant takes less than a round of all, were its callers in turn."""
        return max(int(each.conditions.get("concurrency", 1)) * each.round_seconds for each in self.shapes)

    def facts(self) -> dict[str, object]:
        """What the journal keeps of it: all that it is, and how it reads."""
        shapes = [{**vars(shape), "conditions": dict(shape.conditions)} for shape in self.shapes]
        return {**vars(self), "shapes": shapes, "sentence": self.sentence()}

    @staticmethod
    def of_facts(facts: Mapping[str, object]) -> "Plan":
        """The plan that the journal keeps.

        Raises:
            ValueError: it is none; the text says where.
        """
        return checked(Plan, facts)

    def sentence(self) -> str:
        """What will be done, in words."""
        calls = "; ".join(
            f"{_shape_words(shape.conditions)}: {shape.rounds} rounds of {shape.settle} settle + {shape.timed} timed calls"
            for shape in self.shapes
        )
        over = ""
        if self.seconds_per_replicate * LOOKS[0] > self.max_seconds * 1.05:
            over = f" This is over max_seconds = {self.max_seconds:g}: fewer replicates could not be judged."
        short = ""
        if self.percentile_calls:
            short = (
                f" A percentile that a rule names needs {self.percentile_calls} timed calls a replicate: it will not be judged; "
                f"max_seconds = {math.ceil(self.percentile_seconds)} would buy them."
            )
        return (
            f"{_replicates_words(self.replicates)} of fresh processes, {self.seconds_per_replicate:.1f} s of sampling "
            f"each ({calls}).{over}{short}"
        )


def refined(plan: Plan, first: Replicate) -> Plan:
    """Give each shape the rounds that its noise asks for, as the first replicate shows it and the budget allows.

    A replicate's ratio need not be known better than equal processes differ (0.5 %). What decides is how the rounds scatter,
    never where they lie, so that no verdict is drawn to one side. A plan of a single look is a fast one, and stays so.
    """
    if plan.replicates <= LOOKS[0]:
        return plan
    affordable = (
        plan.max_seconds / (plan.replicates * plan.seconds_per_replicate) if plan.seconds_per_replicate else 1.0
    )
    wanted = {shape.key: (_scatter(first, shape.key) / _INSTANCE_DIFFERENCE) ** 2 for shape in plan.shapes}
    shapes = tuple(
        replace(shape, rounds=math.floor(max(shape.rounds, min(wanted[shape.key], affordable * shape.rounds))))
        for shape in plan.shapes
    )
    return replace(plan, shapes=shapes, seconds_per_replicate=_seconds(shapes))


def _scatter(replicate: Replicate, shape: str) -> float:
    """How far the log ratios of two visits scatter from round to round; the largest of the variants against the control.

    The control stands in every group; without one it is the first that they are set against.
    Over n rounds their median errs by scatter / sqrt(n): 1.2533 is the standard error of a median of normal values, 1.4826
    scales the median absolute deviation to their standard deviation.
    """
    names = sorted((variant for variant, key in replicate.timed if key == shape), key=lambda name: name != CONTROL)
    medians = [
        {round_: float(np.median(calls.sum(axis=1))) for round_, calls in replicate.visits(name, shape).items()}
        for name in names
    ]
    scatters = [0.0]
    for other in medians[1:]:
        shared = [round_ for round_ in other if medians[0].get(round_, 0) > 0 and other[round_] > 0]
        logs = np.log([other[round_] / medians[0][round_] for round_ in shared])
        scatters += [1.2533 * 1.4826 * float(np.median(np.abs(logs - np.median(logs))))] if shared else []
    return max(scatters)


def visit_calls(call_ms: float) -> tuple[int, int]:
    """Settle and timed calls of a visit for a call of that length in milliseconds.

    The caches recover in some 10 ms after another process has used them. Calls of about a millisecond get 3 settle calls
    and 10 timed ones; shorter calls get more of both (3 and 10 ms worth, at most 100); a visit never holds more than about
    50 ms of timed calls, so calls of 50 ms and more get one and one.
    """
    if call_ms <= 0:
        return 3, 10
    if call_ms < 1:
        return min(100, math.ceil(3 / call_ms)), min(100, math.ceil(10 / call_ms))
    settle = max(1, min(3, math.ceil(_SETTLE_MS / call_ms)))
    return settle, max(1, min(10, math.floor(_VISIT_MS / call_ms)))


def make_plan(
    shapes: Sequence[Conditions],
    call_ms: Mapping[str, Sequence[float]],
    *,
    max_seconds: float,
    looks: int | None = None,
    least_calls: Mapping[str, int] | None = None,
    visits: Sequence[int] | None = None,
) -> Plan:
    """Plan a run from the length of one call of each variant (the control's included), by shape key.

    `visits` says how often a round visits each of them, where that is not once: the baseline, if it stands in several groups.
    `looks` caps the number of looks (1: four replicates). `least_calls` are timed calls of a replicate that a shape's rules
    need for their percentiles: they are planned where the budget buys them in four replicates, else the plan says so.
    """
    full = [_full(conditions, call_ms[key_of(conditions)], visits) for conditions in shapes]
    fraction = max_seconds / (_REPLICATES_AIMED_AT * _seconds(full)) if _seconds(full) > 0 else 1.0
    planned = [
        replace(shape, rounds=max(_LEAST_ROUNDS, min(shape.rounds, math.floor(shape.rounds * fraction))))
        for shape in full
    ]
    wanted = [_with_calls(shape, (least_calls or {}).get(shape.key, 0)) for shape in planned]
    affordable = LOOKS[0] * _seconds(wanted) <= max_seconds * 1.05
    short = 0 if affordable or wanted == planned else max((least_calls or {}).values())
    chosen = wanted if affordable else planned
    reachable = [look for look in LOOKS[:looks] if look * _seconds(chosen) <= max_seconds * 1.05]
    return Plan(
        tuple(chosen),
        _seconds(chosen),
        max(reachable, default=LOOKS[0]),
        max_seconds,
        percentile_calls=short,
        percentile_seconds=LOOKS[0] * _seconds(wanted) if short else 0.0,
    )


def _full(conditions: Conditions, lengths: Sequence[float], visits: Sequence[int] | None = None) -> ShapePlan:
    """A shape with all the rounds that are of use; `lengths` are the milliseconds of a call of each variant."""
    times = visits or [1] * len(lengths)
    if "rate" in conditions:
        calls = sum(_ARRIVALS)
        between = 1e3 / float(conditions["rate"])
        seconds = sum(time * calls * max(between, length) for time, length in zip(times, lengths, strict=True)) / 1e3
        return ShapePlan(conditions, *_ARRIVALS, _ARRIVAL_ROUNDS, seconds)
    settle, timed = visit_calls(sorted(lengths)[len(lengths) // 2])
    callers = int(conditions.get("concurrency", 1))
    seconds = sum(time * length for time, length in zip(times, lengths, strict=True)) * (settle + timed) / 1e3
    return ShapePlan(conditions, settle * callers, timed * callers, _FULL_ROUNDS, seconds)


def _with_calls(shape: ShapePlan, calls: int) -> ShapePlan:
    """A shape with enough rounds for so many timed calls a replicate."""
    return replace(shape, rounds=max(shape.rounds, math.ceil(calls / shape.timed)))


def _seconds(shapes: Sequence[ShapePlan]) -> float:
    """Sampling seconds of a replicate."""
    return sum(shape.rounds * shape.round_seconds for shape in shapes)


def _replicates_words(most: int) -> str:
    return f"{most} replicates" if most == LOOKS[0] else f"{LOOKS[0]} to {most} replicates"


def _shape_words(conditions: Conditions) -> str:
    names = [f"{name} {value}" for name, value in conditions.items() if name not in ("threads", END_TO_END)]
    return ", ".join([*names, *(["end to end"] if END_TO_END in conditions else [])]) or "one shape"
