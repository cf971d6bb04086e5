"""What results must hold beyond the types of their fields, so that whoever renders a run folder of others need not look again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..optimize.errors import one_of
from ..optimize.plain_data import checked
from .metrics import METRICS, SHAPE_KEYS
from .results import Comparison, Control, Gate, Measurement, Results

_MOST = 1e30
"""No quantity of a run is larger, and none but 0 is nearer to 0 than one over it; beyond them axes and ratios overflow."""


@dataclass(frozen=True)
class _Environment:
    date: str = ""
    commit: str = ""
    memory_bytes: float = 0.0
    instruction_sets: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Workload:
    name: str = ""


@dataclass(frozen=True)
class _Config:
    workload: _Workload = _Workload()


@dataclass(frozen=True)
class _Audit:
    ok: bool = True
    reason: str = ""
    nodes: dict[str, int] = field(default_factory=dict)
    weight_bytes: dict[str, int] = field(default_factory=dict)
    sparsity: float = 0.0
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Parity:
    max_abs: float
    cosine: float
    agreement: float


@dataclass(frozen=True)
class _Step:
    step: dict[str, Any] = field(default_factory=dict)
    status: str = ""
    reason: str = ""


@dataclass(frozen=True)
class _Built:
    audit: _Audit | None
    parity: _Parity | None
    steps: tuple[_Step, ...]


@dataclass(frozen=True)
class _Maps:
    """The parts that are free maps in results.json, as far as a report looks into them."""

    environment: _Environment
    config: _Config
    variants: tuple[_Built, ...]


def need_sound(results: Results) -> None:
    """Check what the fields' types leave open.

    Raises:
        ValueError: something is missing, of another type, unknown, or contradicts itself; the text says where.
    """
    rows = [{"audit": row.audit, "parity": row.parity or None, "steps": row.steps} for row in results.variants]
    checked(_Maps, {"environment": results.environment, "config": results.config, "variants": rows})
    for fault in _faults(results):
        raise ValueError(fault)


def _faults(results: Results) -> Iterator[str]:
    names = [row.name for row in results.variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"two variants are named {', '.join(twice)}"
    baselines = [row.name for row in results.variants if row.baseline]
    if len(baselines) != 1:
        yield f"{len(baselines)} variants are marked as baseline; it must be exactly one"
    quantities: list[Measurement | Comparison | Control] = [
        *results.measurements,
        *results.comparisons,
        *results.control,
    ]
    for each in (*quantities, *results.gates):
        yield from _unknown(each)
    for found in quantities:
        if not _plausible(found):
            yield f"{found.metric}: {found.value} [{found.low}, {found.high}] is no quantity"
    for part in results.reliability:
        yield from _no_shares(
            f"reliability of {part.variant}", part.n, part.low, part.high, part.confidence, part.accuracy
        )
    for recall in results.class_recalls:
        yield from _no_shares(f"recall of class {recall.class_name}", recall.n, recall.baseline, recall.candidate)
    for gate in results.gates:
        if set(gate.limit) not in ({"max"}, {"min"}):
            yield f"the limit of a gate on {gate.metric} must be one of max and min; given {', '.join(gate.limit) or 'none'}"


def _unknown(each: Measurement | Comparison | Control | Gate) -> Iterator[str]:
    if each.metric not in METRICS:
        yield one_of("metric", each.metric, METRICS)
    for key in each.conditions:
        if key not in SHAPE_KEYS:
            yield one_of("condition", key, SHAPE_KEYS)


def _no_shares(what: str, n: int, *shares: float) -> Iterator[str]:
    if n < 1 or not all(0 <= share <= 1 for share in shares):
        yield f"{what}: shares lie from 0 to 1, and are of one example at least; given {', '.join(map(str, shares))} of {n}"


def _plausible(found: Measurement | Comparison | Control) -> bool:
    """Whether the numbers can be drawn and divided by; a ratio of times is above 0."""
    numbers = [number for number in (found.value, found.low, found.high) if number is not None]
    of_times = METRICS[found.metric].family in ("speed", "generation")
    ratio = isinstance(found, Control) or (isinstance(found, Comparison) and found.kind == "ratio")
    if of_times and ratio and min(numbers) <= 0:
        return False
    return all(number == 0 or 1 / _MOST < abs(number) < _MOST for number in numbers)
