"""Verdicts in words: metric, interval, limit, n; and for an undecided rule what to change, and by how much."""

import math
from collections.abc import Sequence

from .evidence import LOOKS, Evidence, Interval, PairedAccuracy, ReplicateRatios
from .metrics import METRICS, Conditions
from .results import Verdict
from .rules import Rule
from .stats import examples_for_difference, t_quantile

_MOST_EXAMPLES = 1_000_000
_NEAR_ONE = 0.05
"""Ratios this near to 1 are shown with four decimals: there the third one decides."""


def sentence(
    rule: Rule,
    piece: Evidence,
    interval: Interval,
    verdict: Verdict,
    baseline: str,
    seconds_per_replicate: float,
    alphas: tuple[float, float],
) -> str:
    """One sentence a verdict; `alphas` are the one-sided errors with which the interval was made."""
    shown_limit = f"{rule.limit:g}x" if rule.compare == "ratio" else quantity(rule, rule.limit)
    limit = f"limit at {'most' if rule.maximum else 'least'} {shown_limit}"
    compared = "" if rule.compare == "value" else f" {'of' if rule.compare == 'ratio' else 'against'} {baseline}"
    shown = f"{quantity(rule, interval.value)} [{quantity(rule, interval.low)}, {quantity(rule, interval.high)}]"
    ground = ", ".join(
        filter(None, [f"{interval.n} {piece.unit}" if piece.unit else "exact", shape_words(piece.conditions)])
    )
    words = f"{piece.variant}: {piece.metric} {shown}{compared}, {limit}: {verdict.replace('_', ' ')} ({ground})"
    if rule.compare == "value" and METRICS[rule.metric].family in ("speed", "generation"):
        words += "; an absolute time holds for this session only"
    if verdict == "inconclusive":
        words += f". {_what_it_takes(rule, piece, interval, seconds_per_replicate, alphas)}"
    return words


def not_evaluated_sentence(rule: Rule, variant: str, status: str, reason: str, shapes: Sequence[Conditions]) -> str:
    """Why a rule could not be judged on a variant."""
    if status != "ok":
        return f"{variant}: {rule.metric} was not evaluated: the variant is {status} ({reason})"
    if shapes:
        measured = "; ".join(shape_words(shape) or "one shape" for shape in shapes)
        return f"{variant}: {rule.metric} was not evaluated at {shape_words(rule.conditions)} (measured: {measured})"
    return f"{variant}: {rule.metric} ({rule.compare}) was not evaluated: this run did not measure it"


def quantity(rule: Rule, value: float) -> str:
    """A value in the words of its comparison: 0.216x, 1.0312x, -0.20 points, 3.1 ms."""
    metric = METRICS[rule.metric]
    if rule.compare == "ratio":
        return f"{value:.4f}x" if abs(value - 1) < _NEAR_ONE else f"{value:.3g}x"
    if metric.family == "quality" and metric.unit == "1" and rule.compare == "difference":
        return f"{100 * value:+.2f} points"
    return f"{value:.4g}" + ("" if metric.unit == "1" else f" {metric.unit}")


def shape_words(conditions: Conditions) -> str:
    """A shape in words; threads are the same for the whole run and left out."""
    return ", ".join(f"{key} {value}" for key, value in conditions.items() if key != "threads")


def _what_it_takes(
    rule: Rule, piece: Evidence, interval: Interval, seconds_per_replicate: float, alphas: tuple[float, float]
) -> str:
    """What would decide an undecided rule, as far as this run's own spread tells."""
    gap = abs(interval.value - rule.limit)
    if isinstance(piece, ReplicateRatios):
        return _more_replicates(rule, piece, interval, gap, seconds_per_replicate, alphas)
    if isinstance(piece, PairedAccuracy):
        share = max(piece.changed, 1) / interval.n
        room = gap if rule.compare == "difference" else gap * float(piece.baseline_right.mean())
        if room == 0:
            return "The estimate lies on the limit: no number of examples decides it; set another limit"
        width = (interval.high - interval.low) / 2
        by_width = math.ceil(interval.n * (width / gap) ** 2)
        needed = max(examples_for_difference(room, share, min(alphas)), by_width)
        if needed > _MOST_EXAMPLES:
            return "The estimate lies so near the limit that a million examples would not decide it; set another limit"
        return f"It would take about {needed} examples at this rate of change ({share:.1%}), or another limit"
    width = (interval.high - interval.low) / 2
    factor = (width / gap) ** 2 if gap else math.inf
    if math.isinf(factor):
        return "The estimate lies on the limit: set another limit"
    return f"It would take about {math.ceil(interval.n * factor)} {piece.unit}, or another limit"


def _more_replicates(
    rule: Rule,
    piece: ReplicateRatios,
    interval: Interval,
    gap: float,
    seconds_per_replicate: float,
    alphas: tuple[float, float],
) -> str:
    """More seconds where more replicates would do it; else the floor of this run against the limit."""
    control = piece.control_interval(*alphas)
    if (
        control is not None
        and rule.compare == "ratio"
        and control.bias
        and gap <= math.expm1(control.bias) * interval.value
    ):
        return (
            f"The control, a twin of the baseline, is itself off: floor {control.floor:.1%}, the estimate is "
            f"{gap / rule.limit:.1%} from the limit. Quieten the machine or set a wider limit"
        )
    half = interval.high - interval.value if rule.maximum else interval.value - interval.low
    outer = interval.value - interval.low if rule.maximum else interval.high - interval.value
    half = half if (interval.value <= rule.limit) == rule.maximum else outer
    needed = _replicates_for(half, gap, interval.n, min(alphas))
    floor = f"floor {control.floor:.1%}, " if control is not None else ""
    distance = f"{floor}the estimate is {gap / abs(rule.limit):.1%} from the limit" if rule.limit else f"{floor}limit 0"
    if needed is None:
        return f"No affordable time decides it ({distance}): set a limit further from the estimate"
    seconds = (needed - interval.n) * seconds_per_replicate
    return f"It needs about {seconds:.0f} s more ({needed} replicates): {distance}; raise measure.max_seconds"


def _replicates_for(half: float, gap: float, n: int, alpha: float) -> int | None:
    """The next look at which a half width measured with n replicates would be below the gap; None: not by the last."""
    spread = half * math.sqrt(n) / -t_quantile(alpha / len(LOOKS), n - 1)
    for look in LOOKS:
        if look > n and -t_quantile(alpha / len(LOOKS), look - 1) * spread / math.sqrt(look) <= gap:
            return look
    return None
