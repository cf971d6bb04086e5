"""Verdicts in words: metric, interval, limit, n; and for an undecided rule what to change, and by how much."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .evidence import Evidence, Incomparable, Interval, PairedAccuracy, ReplicateRatios, TooFewCalls, TwoRuns
from .looks import LOOKS, per_look_error
from .metrics import METRICS, SHARES, Conditions
from .quality_evidence import PairedQuality, WorstClassRecall, copies_to_decide
from .results import Measurement, Verdict
from .rules import Rule, column_of
from .samples import key_of
from .speed import BEST
from .stats import examples_for_difference, t_quantile

_MOST_EXAMPLES = 1_000_000
_TOO_NEAR = "The estimate lies so near the limit that a million examples would not decide it; set another limit"
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
    counted = f"{interval.n} {piece.unit}" if piece.unit else "exact"
    if isinstance(piece, WorstClassRecall):
        counted += f" of class {piece.worst.name}"
    ground = ", ".join(filter(None, [counted, shape_words(piece.conditions)]))
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
    if rule.slice is not None:
        kept = sorted({column for column in map(column_of, shapes) if column is not None})
        return (
            f"{variant}: {rule.metric} was not evaluated within {shape_words(rule.conditions) or rule.slice}: "
            f"the run kept {f'the columns {kept}' if kept else 'no data column'}. "
            f"Name '{rule.slice}' in workload.columns.slices and run again"
        )
    if shapes:
        measured = "; ".join(shape_words(shape) or "one shape" for shape in shapes)
        return f"{variant}: {rule.metric} was not evaluated at {shape_words(rule.conditions)} (measured: {measured})"
    return f"{variant}: {rule.metric} ({rule.compare}) was not evaluated: this run did not measure it"


def lack_sentence(piece: Evidence, percentile_seconds: float) -> str:
    """Why there is no interval, and what it would take; `percentile_seconds` of sampling would give every percentile its n."""
    if isinstance(piece, TooFewCalls):
        cure = (
            f"measure.max_seconds = {math.ceil(percentile_seconds)} would buy them"
            if percentile_seconds
            else "weigh longer"
        )
        return (
            f"{piece.variant}: {piece.metric} was not evaluated ({shape_words(piece.conditions)}): n too small, {piece.calls} of "
            f"{piece.needed} timed calls a replicate; {cure}"
        )
    if isinstance(piece, ReplicateRatios | TwoRuns) and piece.looked_at:
        return (
            f"{piece.variant}: {piece.metric} has no ratio: it was 0 in some replicate; compare by value or difference"
        )
    if isinstance(piece, PairedAccuracy | PairedQuality):
        return f"{piece.variant}: {piece.metric} was not evaluated: the baseline's is 0, and nothing has a ratio to it"
    if isinstance(piece, Incomparable):
        return f"{piece.variant}: {piece.metric} cannot be compared: {piece.why}: inconclusive"
    return f"{piece.variant}: {piece.metric}: too little was measured for an interval (4 replicates, 2 windows)"


def load_sentences(measurements: Sequence[Measurement], latency_limit: Mapping[str, float]) -> Iterator[str]:
    """Each variant's best batch size, and the highest rate that it sustains; a sentence for each place where it was measured."""
    for each, found in _by_place(m for m in measurements if m.conditions.get("batch_size") == BEST):
        place = shape_words({name: value for name, value in each.items() if name != "batch_size"})
        values = (f"{m.variant} {_whole(m.value)} {m.unit} ({m.note.removeprefix('best at ')})" for m in found)
        yield f"Best throughput of the batch sizes{place and f' at {place}'}: {', '.join(values)}."
    for each, found in _by_place(m for m in measurements if m.metric == "sustained_rate"):
        limit = " and ".join(f"{name} within {value:g} ms" for name, value in latency_limit.items())
        values = (f"{m.variant} {m.value:g}/s" if m.value else f"{m.variant} none" for m in found)
        yield f"Highest of the rates with {limit} at {shape_words(each)}: {', '.join(values)}."


def _whole(value: float | None) -> str:
    """Four digits, without an exponent."""
    return f"{value:.0f}" if value is not None and value >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - four digits


def _by_place(measurements: Iterable[Measurement]) -> Iterator[tuple[Conditions, list[Measurement]]]:
    places: dict[str, list[Measurement]] = {}
    for each in measurements:
        places.setdefault(key_of(each.conditions), []).append(each)
    for found in places.values():
        yield found[0].conditions, found


def quantity(rule: Rule, value: float) -> str:
    """A value in the words of its comparison: 0.216x, 1.0312x, -0.20 points, 3.1 ms."""
    metric = METRICS[rule.metric]
    if rule.compare == "ratio":
        return f"{value:.4f}x" if abs(value - 1) < _NEAR_ONE else f"{value:.3g}x"
    if rule.metric in SHARES and rule.compare == "difference":
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
    if gap == 0:
        return "The estimate lies on the limit: no number of examples decides it; set another limit"
    if isinstance(piece, PairedQuality | WorstClassRecall):
        return _more_examples(rule, piece, interval, alphas)
    if isinstance(piece, PairedAccuracy):
        return _more_pairs(rule, piece, interval, gap, alphas)
    width = (interval.high - interval.low) / 2
    return f"It would take about {math.ceil(interval.n * (width / gap) ** 2)} {piece.unit}, or another limit"


def _more_pairs(rule: Rule, piece: PairedAccuracy, interval: Interval, gap: float, alphas: tuple[float, float]) -> str:
    """How many examples at this share of changed answers would decide an accuracy."""
    share = max(piece.changed, 1) / interval.n
    room = gap if rule.compare == "difference" else gap * float(piece.baseline_right.mean())
    width = (interval.high - interval.low) / 2
    by_width = math.ceil(interval.n * (width / gap) ** 2)
    needed = max(examples_for_difference(room, share, min(alphas)), by_width)
    if needed > _MOST_EXAMPLES:
        return _TOO_NEAR
    return f"It would take about {needed} examples at this rate of change ({share:.1%}), or another limit"


def _more_examples(
    rule: Rule, piece: PairedQuality | WorstClassRecall, interval: Interval, alphas: tuple[float, float]
) -> str:
    """How many examples that change as these do would decide it."""
    copies = copies_to_decide(piece, rule.compare, rule.limit, alphas)
    if copies is None:
        return _TOO_NEAR
    needed = math.ceil(copies * interval.n)
    if isinstance(piece, WorstClassRecall):
        return (
            f"It would take about {copies:.1f} times as many examples of every class ({needed} of {piece.worst.name}), "
            "or another limit"
        )
    return f"It would take about {needed} examples that change as these do, or another limit"


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
    needed = _replicates_for(half, gap, interval.n, min(alphas), piece.planned)
    floor = f"floor {control.floor:.1%}, " if control is not None else ""
    distance = f"{floor}the estimate is {gap / abs(rule.limit):.1%} from the limit" if rule.limit else f"{floor}limit 0"
    if needed is None:
        return f"No affordable time decides it ({distance}): set a limit further from the estimate"
    seconds = (needed - interval.n) * seconds_per_replicate
    return f"It needs about {seconds:.0f} s more ({needed} replicates): {distance}; raise measure.max_seconds"


def _replicates_for(half: float, gap: float, n: int, alpha: float, planned: int) -> int | None:
    """The next look at which a half width measured with n of `planned` replicates would be below the gap; None: never."""
    spread = half * math.sqrt(n) / -t_quantile(per_look_error(alpha, planned), n - 1)
    for look in LOOKS:
        if look > n and -t_quantile(per_look_error(alpha), look - 1) * spread / math.sqrt(look) <= gap:
            return look
    return None
