"""For an undecided rule: what to change and by how much, as far as the run's own evidence tells. Seconds, examples, the limit."""

import math
from dataclasses import dataclass

from .evidence import Agreement, Evidence, Interval, PairedAccuracy, ReplicateRatios, TwoRuns
from .looks import LOOKS, per_look_error
from .metrics import SHARES
from .quality_evidence import PairedQuality, WorstClassRecall, copies_to_decide
from .rules import Rule
from .stats import examples_for_difference, t_quantile
from .sustained import SustainedRate

_MOST_EXAMPLES = 1_000_000
_TOO_NEAR = "The estimate lies so near the limit that a million examples would not decide it"
_OVER_BUDGET = 1.05
"""A plan may take so much more than its max_seconds."""
_DIGITS = 4
_UNBOUNDED = 1e9


@dataclass(frozen=True)
class JudgingPlan:
    """What a run planned, in seconds of sampling, for saying what it would take to decide.

    Attributes:
        seconds_per_replicate: what a further replicate would cost.
        percentile_seconds: what a run would take with enough calls for every percentile that its rules name.
        max_seconds: the budget that the run had.
    """

    seconds_per_replicate: float = 0.0
    percentile_seconds: float = 0.0
    max_seconds: float = 0.0


def what_it_takes(
    rule: Rule, piece: Evidence, interval: Interval, plan: JudgingPlan, alphas: tuple[float, float]
) -> str:
    """What would decide a rule whose limit lies inside the interval; `alphas` are the errors with which that was made."""
    told = (_cure(rule, piece, interval, plan, alphas), _limits(rule, interval))
    return ". ".join(filter(None, told))


def _cure(rule: Rule, piece: Evidence, interval: Interval, plan: JudgingPlan, alphas: tuple[float, float]) -> str:
    """How much more of the same would decide it."""
    if isinstance(piece, ReplicateRatios | TwoRuns):
        return _more_replicates(rule, piece, interval, plan, alphas)
    if isinstance(piece, SustainedRate):
        return (
            f"{_open_rates(rule, piece, interval, alphas)}: raise measure.max_seconds, or set the rates further apart"
        )
    gap = abs(interval.value - rule.limit)
    if gap == 0:
        return "The estimate lies on the limit: no number of examples decides it"
    if isinstance(piece, PairedQuality | WorstClassRecall | Agreement):
        return _more_examples(rule, piece, interval, alphas)
    if isinstance(piece, PairedAccuracy):
        return _more_pairs(rule, piece, interval, alphas)
    return _needs(math.ceil(interval.n * (_toward(interval, rule.limit) / gap) ** 2), interval.n, str(piece.unit))


def _open_rates(rule: Rule, piece: SustainedRate, interval: Interval, alphas: tuple[float, float]) -> str:
    """The rates that are neither proven nor refuted, of the candidate and, where it is compared with, of the baseline."""
    sides = (interval,) if rule.compare == "value" else piece.sides(*alphas)
    told = [
        f"the {who}'s rates from {side.low:g} to {side.high:g}/s"
        for who, side in zip(("candidate", "baseline"), sides, strict=False)
        if side.low < side.high
    ]
    return f"Open are {' and '.join(told)}"


def _limits(rule: Rule, interval: Interval) -> str:
    """The limits that this evidence would pass and fail, on the rule's own scale."""
    passed, failed = (interval.high, interval.low) if rule.maximum else (interval.low, interval.high)
    ends = (("passes", _beyond(passed, up=rule.maximum)), ("fails", _beyond(failed, up=not rule.maximum)))
    told = [f"{rule.bound} = {limit:.{_DIGITS + 1}g} {word}" for word, limit in ends if _can_be_met(rule, limit)]
    return f"A limit that this evidence decides: {', '.join(told)}" if told else ""


def _beyond(end: float, *, up: bool) -> float:
    """The next number of four digits that lies past an end of the interval."""
    step = 10.0 ** (math.floor(math.log10(abs(end))) - _DIGITS + 1) if end else 10.0**-_DIGITS
    return step * (math.floor(end / step) + 1 if up else math.ceil(end / step) - 1)


def _can_be_met(rule: Rule, limit: float) -> bool:
    """Whether a limit lies where the metric can: no ratio below 0, no share above 1."""
    most = 1.0 if rule.metric in SHARES and rule.compare != "ratio" else _UNBOUNDED
    least = -most if rule.compare == "difference" else 0.0
    return least <= limit <= most


def _toward(interval: Interval, limit: float) -> float:
    """How far the bound on the limit's side lies from the estimate."""
    return interval.high - interval.value if limit > interval.value else interval.value - interval.low


# --- examples ---


def _needs(needed: int, had: int, unit: str, how: str = "") -> str:
    if needed > _MOST_EXAMPLES:
        return _TOO_NEAR
    needed = max(needed, had + 1)
    return f"It would take about {needed} {unit}{how}, {needed - had} more"


def _more_pairs(rule: Rule, piece: PairedAccuracy, interval: Interval, alphas: tuple[float, float]) -> str:
    """How many examples at this share of changed answers would decide an accuracy."""
    share = max(piece.changed, 1) / interval.n
    gap = abs(interval.value - rule.limit)
    room = gap * float(piece.baseline_right.mean()) if rule.compare == "ratio" else gap
    by_width = math.ceil(interval.n * (_toward(interval, rule.limit) / gap) ** 2)
    needed = max(examples_for_difference(room, share, min(alphas)), by_width)
    return _needs(needed, interval.n, piece.unit, f" at this rate of change ({share:.1%})")


def _more_examples(
    rule: Rule, piece: PairedQuality | WorstClassRecall | Agreement, interval: Interval, alphas: tuple[float, float]
) -> str:
    """How many examples that change as these do would decide it."""
    copies = copies_to_decide(piece, rule.compare, rule.limit, alphas)
    if copies is None:
        return _TOO_NEAR
    needed = math.ceil(copies * interval.n)
    if isinstance(piece, WorstClassRecall):
        return (
            f"It would take about {copies:.1f} times as many examples of every class ({needed} of {piece.worst.name}, "
            f"{needed - interval.n} more)"
        )
    return _needs(needed, interval.n, piece.unit, " that change as these do")


# --- seconds ---


def _more_replicates(
    rule: Rule,
    piece: ReplicateRatios | TwoRuns,
    interval: Interval,
    plan: JudgingPlan,
    alphas: tuple[float, float],
) -> str:
    """More seconds where more replicates would do it; else how near the limit lies to the estimate, and the floor."""
    control = piece.control_interval(*alphas) if isinstance(piece, ReplicateRatios) else None
    floor = f"floor {control.floor:.1%}, " if control is not None else ""
    gap = abs(interval.value - rule.limit)
    distance = f"{floor}the estimate is {gap / abs(rule.limit):.1%} from the limit" if rule.limit else f"{floor}limit 0"
    half, gap = _on_the_scale(rule, interval)
    if control is not None and rule.compare == "ratio" and control.bias:
        half, gap = half - control.bias, gap - control.bias
        if gap <= 0:
            return f"The control, a twin of the baseline, is itself off: {distance}. Quieten the machine"
    planned = piece.planned if isinstance(piece, ReplicateRatios) else min(piece.now.planned, piece.then.planned)
    needed = _replicates_for(half, gap, interval.n, min(alphas), planned)
    if needed is None:
        return f"No affordable time decides it ({distance})"
    if isinstance(piece, TwoRuns):
        return f"It needs about {needed} replicates in each of the two runs ({distance}): raise measure.max_seconds of both"
    more = (needed - interval.n) * plan.seconds_per_replicate
    return f"It needs about {more:.0f} s more ({needed} replicates): {distance}; {_budget(needed, plan)}"


def _on_the_scale(rule: Rule, interval: Interval) -> tuple[float, float]:
    """How far bound and limit lie from the estimate where the interval is a mean's: ratios are means of logarithms."""
    if rule.compare != "ratio":
        return _toward(interval, rule.limit), abs(interval.value - rule.limit)
    bound = interval.high if rule.limit > interval.value else interval.low
    return abs(math.log(bound / interval.value)), abs(math.log(rule.limit / interval.value))


def _budget(replicates: int, plan: JudgingPlan) -> str:
    """The budget that buys so many replicates; a quick run stops before it has spent its own."""
    seconds = math.ceil(replicates * plan.seconds_per_replicate)
    if seconds <= plan.max_seconds * _OVER_BUDGET:
        return "run without --quick"
    return f"set measure.max_seconds = {seconds}"


def _replicates_for(half: float, gap: float, n: int, alpha: float, planned: int) -> int | None:
    """The next look at which a half width measured with n of `planned` replicates would be below the gap; None: never."""
    spread = half * math.sqrt(n) / -t_quantile(per_look_error(alpha, planned), n - 1)
    for look in LOOKS:
        if look > n and -t_quantile(per_look_error(alpha), look - 1) * spread / math.sqrt(look) <= gap:
            return look
    return None
