"""Verdicts in words: metric, interval, limit, n; and for an undecided rule what would decide it (deciding.py)."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .deciding import JudgingPlan, what_it_takes
from .evidence import Evidence, Exact, Incomparable, Interval, PairedAccuracy, ReplicateRatios, TooFewCalls, TwoRuns
from .metrics import METRICS, SHARES, Conditions
from .quality_evidence import PairedQuality, Undefined, WorstClassRecall
from .results import Measurement, Verdict
from .rules import Rule, column_of, needs_of
from .samples import key_of
from .speed import BEST
from .sustained import SustainedRate

_NEAR_ONE = 0.05
"""Ratios this near to 1 are shown with four decimals: there the third one decides."""
_EXACTLY = ".12g"
"""More digits than anyone gives a limit, and fewer than those in which a float is off."""


def sentence(
    rule: Rule,
    piece: Evidence,
    interval: Interval,
    verdict: Verdict,
    baseline: str,
    plan: JudgingPlan,
    alphas: tuple[float, float],
) -> str:
    """One sentence a verdict; `alphas` are the one-sided errors with which the interval was made."""
    limit = f"limit at {'most' if rule.maximum else 'least'} {_limit(rule)}"
    compared = "" if rule.compare == "value" else f" {'of' if rule.compare == 'ratio' else 'against'} {baseline}"
    shown = f"{quantity(rule, interval.value)} [{quantity(rule, interval.low)}, {quantity(rule, interval.high)}]"
    counted = piece.known if isinstance(piece, Exact) else f"{interval.n} {piece.unit}"
    if isinstance(piece, WorstClassRecall):
        counted += f" of class {piece.worst.name}"
    ground = ", ".join(filter(None, [counted, shape_words(piece.conditions)]))
    words = f"{piece.variant}: {piece.metric} {shown}{compared}, {limit}: {verdict.replace('_', ' ')} ({ground})"
    if rule.compare == "value" and _is_time(rule.metric):
        words += "; an absolute time holds for this session only"
    if verdict == "inconclusive":
        words += f". {what_it_takes(rule, piece, interval, plan, alphas)}"
    return words


def _is_time(metric: str) -> bool:
    """Whether a value of the metric is the machine's as much as the variant's."""
    return METRICS[metric].family in ("speed", "generation") or METRICS[metric].unit in ("ms", "s")


def baseline_sentence(rule: Rule, baseline: str) -> str:
    """Why a rule is not judged on the baseline."""
    return (
        f"{baseline}: {rule.metric} was not evaluated: {baseline} is the baseline, against which the candidates are judged; "
        "name one of them in the rule's variants"
    )


def not_evaluated_sentence(rule: Rule, variant: str, status: str, reason: str, shapes: Sequence[Conditions]) -> str:
    """Why a rule could not be judged on a candidate."""
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
    needs = needs_of(rule.metric)
    return f"{variant}: {rule.metric} ({rule.compare}) was not evaluated: this run did not measure it{needs and f'; {needs}'}"


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
    if isinstance(piece, ReplicateRatios | TwoRuns | SustainedRate) and piece.looked_at:
        none = isinstance(piece, SustainedRate)
        why = "the baseline sustains none of the rates" if none else "it was 0 in some replicate"
        return f"{piece.variant}: {piece.metric} has no ratio: {why}; compare by value or difference"
    if isinstance(piece, PairedAccuracy | PairedQuality | Exact):
        return (
            f"{piece.variant}: {piece.metric} was not evaluated: the baseline's is 0, and nothing has a ratio to it; "
            "compare by value or difference"
        )
    if isinstance(piece, Undefined):
        return f"{piece.variant}: {piece.metric} was not evaluated ({shape_words(piece.conditions)}): {piece.why}, so that it is not defined"
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


def _limit(rule: Rule) -> str:
    """The limit in the words of its comparison, with every digit that was given: 1.03x, -1.00 points, -0.125 points, 2.345 ms."""
    if rule.compare == "ratio":
        return f"{rule.limit:{_EXACTLY}}x"
    if rule.metric in SHARES and rule.compare == "difference":
        points = round(100 * rule.limit, 10)
        form = ".2f" if points == round(points, 2) else _EXACTLY
        return f"{points:+{form}} points"
    unit = METRICS[rule.metric].unit
    return f"{rule.limit:{_EXACTLY}}" + ("" if unit == "1" else f" {unit}")


def shape_words(conditions: Conditions) -> str:
    """A shape in words; threads are the same for the whole run and left out."""
    return ", ".join(f"{key} {value}" for key, value in conditions.items() if key != "threads")
