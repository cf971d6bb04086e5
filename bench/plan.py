"""What the time budget buys: settle and timed calls a visit, rounds a replicate, replicates in all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .evidence import LOOKS
from .metrics import Conditions
from .samples import key_of

_FULL_ROUNDS = 30
_LEAST_ROUNDS = 5
_SETTLE_MS = 12.0
_VISIT_MS = 50.0
_REPLICATES_AIMED_AT = 6


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

    def sentence(self) -> str:
        """What will be done, in words."""
        calls = "; ".join(
            f"{_shape_words(shape.conditions)}: {shape.rounds} rounds of {shape.settle} settle + {shape.timed} timed calls"
            for shape in self.shapes
        )
        over = ""
        if self.seconds_per_replicate * LOOKS[0] > self.max_seconds * 1.05:
            over = f" This is over max_seconds = {self.max_seconds:g}: fewer replicates could not be judged."
        return (
            f"{_replicates_words(self.replicates)} of fresh processes, {self.seconds_per_replicate:.1f} s of sampling "
            f"each ({calls}).{over}"
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
) -> Plan:
    """Plan a run from the length of one call of each variant (the control's included), by shape key.

    `looks` caps the number of looks (1: four replicates).
    """
    bare = []
    for conditions in shapes:
        lengths = call_ms[key_of(conditions)]
        settle, timed = visit_calls(sorted(lengths)[len(lengths) // 2])
        bare.append((conditions, settle, timed, sum(lengths) * (settle + timed) / 1e3))
    round_all = sum(seconds for *_, seconds in bare)
    rounds = math.floor(max_seconds / (_REPLICATES_AIMED_AT * round_all)) if round_all > 0 else _FULL_ROUNDS
    rounds = max(_LEAST_ROUNDS, min(_FULL_ROUNDS, rounds))
    planned = tuple(
        ShapePlan(conditions, settle, timed, rounds, seconds) for conditions, settle, timed, seconds in bare
    )
    per_replicate = rounds * round_all
    reachable = [look for look in LOOKS[:looks] if look * per_replicate <= max_seconds * 1.05]
    return Plan(planned, per_replicate, max(reachable, default=LOOKS[0]), max_seconds)


def _replicates_words(most: int) -> str:
    return f"{most} replicates" if most == LOOKS[0] else f"{LOOKS[0]} to {most} replicates"


def _shape_words(conditions: Conditions) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions.items() if name != "threads") or "one shape"
