"""What the time budget buys: settle and timed calls a visit, rounds a replicate, replicates in all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .looks import LOOKS
from .metrics import Conditions
from .samples import key_of

_FULL_ROUNDS = 15
"""A replicate's own differences soon outweigh what more rounds would average out; see the table of docs/weighing.md."""
_LEAST_ROUNDS = 5
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
) -> Plan:
    """Plan a run from the length of one call of each variant (the control's included), by shape key.

    `looks` caps the number of looks (1: four replicates). `least_calls` are timed calls of a replicate that a shape's rules
    need for their percentiles: they are planned where the budget buys them in four replicates, else the plan says so.
    """
    full = [_full(conditions, call_ms[key_of(conditions)]) for conditions in shapes]
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


def _full(conditions: Conditions, lengths: Sequence[float]) -> ShapePlan:
    """A shape with all the rounds that are of use; `lengths` are the milliseconds of a call of each variant."""
    if "rate" in conditions:
        calls = sum(_ARRIVALS)
        between = 1e3 / float(conditions["rate"])
        seconds = sum(calls * max(between, length) for length in lengths) / 1e3
        return ShapePlan(conditions, *_ARRIVALS, _ARRIVAL_ROUNDS, seconds)
    settle, timed = visit_calls(sorted(lengths)[len(lengths) // 2])
    callers = int(conditions.get("concurrency", 1))
    return ShapePlan(conditions, settle * callers, timed * callers, _FULL_ROUNDS, sum(lengths) * (settle + timed) / 1e3)


def _with_calls(shape: ShapePlan, calls: int) -> ShapePlan:
    """A shape with enough rounds for so many timed calls a replicate."""
    return replace(shape, rounds=max(shape.rounds, math.ceil(calls / shape.timed)))


def _seconds(shapes: Sequence[ShapePlan]) -> float:
    """Sampling seconds of a replicate."""
    return sum(shape.rounds * shape.round_seconds for shape in shapes)


def _replicates_words(most: int) -> str:
    return f"{most} replicates" if most == LOOKS[0] else f"{LOOKS[0]} to {most} replicates"


def _shape_words(conditions: Conditions) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions.items() if name != "threads") or "one shape"
