"""Evidence and rules in, verdicts out: pure, with a promised error rate for the whole run.

`error_rate` bounds the chance that any variant that breaks a rule is passed, and the chance that any rule that holds is
failed. A variant that breaks a rule is passed only if that rule passes it, so the first is split over the candidate
variants; the second is split over all rules, variants and shapes. For a `max` rule the upper bound carries the first error
and the lower bound the second; for a `min` rule the reverse.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .deciding import JudgingPlan
from .evidence import Evidence, Incomparable, Interval, ReplicateRatios
from .metrics import METRICS, OF_PROCESSES, Kind
from .results import Comparison, Control, Gate, Status, Verdict
from .rules import Rule
from .sentences import baseline_sentence, lack_sentence, not_evaluated_sentence, sentence

IMPLAUSIBLE_SPEED = 30.0
"""A candidate faster (or smaller) than this factor is flagged: more likely broken than good."""
IMPLAUSIBLE_ACCURACY = 0.05
"""A candidate whose accuracy is higher by more than this, whole interval, is flagged."""
PRECISE_ENOUGH = 0.02
"""Without a rule, weighing goes on until every ratio's half width is at most this."""


@dataclass(frozen=True)
class VariantState:
    """What became of a variant, and why."""

    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """Verdicts, the intervals they rest on, and the exit code; `decided`: more replicates would change nothing."""

    gates: tuple[Gate, ...]
    comparisons: tuple[Comparison, ...]
    control: tuple[Control, ...]
    exit_code: int
    decided: bool


@dataclass(frozen=True)
class _Words:
    """What the sentences speak of: the baseline, the other side of a comparison, what more time would cost."""

    baseline: str
    reference: str
    plan: JudgingPlan


@dataclass(frozen=True)
class _Errors:
    """One-sided errors: of passing what breaks a rule, of failing what holds, and of a comparison without a rule."""

    wrong_pass: float
    wrong_fail: float
    unjudged: float

    def of(self, rules: Sequence[Rule]) -> tuple[float, float]:
        """The errors of the lower and upper bound of a comparison that these rules judge."""
        if not rules:
            return self.unjudged, self.unjudged
        sides = [
            (self.wrong_fail, self.wrong_pass) if rule.maximum else (self.wrong_pass, self.wrong_fail) for rule in rules
        ]
        return min(low for low, _ in sides), min(high for _, high in sides)


def judge(
    rules: Sequence[Rule],
    evidence: Sequence[Evidence],
    states: Mapping[str, VariantState],
    *,
    baseline: str,
    required: Sequence[str] = (),
    error_rate: float = 0.01,
    plan: JudgingPlan | None = None,
    inconclusive: Literal["fail", "warn"] = "fail",
    reference: str = "",
) -> Judgement:
    """Judge every rule on every variant and shape that it concerns.

    A variant that is failed or unavailable is `not_evaluated`, never a pass; so is a rule that nothing was measured for.
    `reference` is what the sentences call the other side of a comparison: the baseline, unless it is another run.
    """
    candidates = [name for name in states if name != baseline]
    usable = [each for each in evidence if states[each.variant].status == "ok"]
    judged = sum(rule.concerns(each) for rule in rules for each in usable)
    errors = _Errors(error_rate / max(1, len(candidates)), error_rate / max(1, judged), error_rate / 2)
    plan = plan or JudgingPlan()
    words = _Words(baseline, reference or baseline, plan)
    gates = [gate for rule in rules for gate in _gates(rule, usable, states, words, rules, errors)]
    comparisons = [each for piece in usable for each in _comparisons(piece, rules, errors)]
    return Judgement(
        gates=tuple(gates),
        comparisons=tuple(comparisons),
        control=tuple(_controls(usable, rules, errors)),
        exit_code=_exit_code(gates, rules, states, required, inconclusive),
        decided=_decided(gates, comparisons),
    )


def verdict_of(rule: Rule, interval: Interval) -> Verdict:
    """Pass where the whole interval is inside the limit, fail where it is outside, else inconclusive."""
    if rule.maximum:
        inside, outside = interval.high <= rule.limit, interval.low > rule.limit
    else:
        inside, outside = interval.low >= rule.limit, interval.high < rule.limit
    return "pass" if inside else "fail" if outside else "inconclusive"


def _gates(
    rule: Rule,
    evidence: Sequence[Evidence],
    states: Mapping[str, VariantState],
    words: _Words,
    rules: Sequence[Rule],
    errors: _Errors,
) -> Iterator[Gate]:
    """The verdicts of one rule: a gate for each shape of each variant, or one that says why there is none."""
    others = [name for name, state in states.items() if name != words.baseline and state.status == "ok"]
    wanted = rule.variants or others
    for variant in wanted:
        pieces = [piece for piece in evidence if piece.variant == variant and rule.concerns(piece)]
        for piece in pieces:
            yield _gate(rule, piece, words, rules, errors)
        if not pieces:
            yield _not_evaluated(rule, variant, states[variant], evidence, words.baseline)


def _gate(rule: Rule, piece: Evidence, words: _Words, rules: Sequence[Rule], errors: _Errors) -> Gate:
    low, high = errors.of(_judging(piece, rule.compare, rules))
    interval = piece.interval(rule.compare, low, high)
    if interval is None:
        why = lack_sentence(piece, words.plan.percentile_seconds)
        lacking: Verdict = "inconclusive" if isinstance(piece, Incomparable) else "not_evaluated"
        return Gate(rule.metric, rule.compare, {rule.bound: rule.limit}, piece.variant, piece.conditions, lacking, why)
    verdict = verdict_of(rule, interval)
    text = sentence(rule, piece, interval, verdict, words.reference, words.plan, (low, high))
    return Gate(
        rule.metric,
        rule.compare,
        {rule.bound: rule.limit},
        piece.variant,
        piece.conditions,
        verdict,
        text,
        suspicious=_suspicious(rule, interval),
    )


def _not_evaluated(rule: Rule, variant: str, state: VariantState, evidence: Sequence[Evidence], baseline: str) -> Gate:
    shapes = [each.conditions for each in evidence if each.metric == rule.metric and each.variant == variant]
    words = not_evaluated_sentence(rule, variant, state.status, state.reason, shapes)
    if variant == baseline and state.status == "ok":
        words = baseline_sentence(rule, baseline)
    conditions = rule.conditions if rule.slice is None else {"slice": rule.slice, **rule.conditions}
    return Gate(rule.metric, rule.compare, {rule.bound: rule.limit}, variant, conditions, "not_evaluated", words)


def _judging(piece: Evidence, kind: Kind, rules: Sequence[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.compare == kind and rule.concerns(piece)]


def _comparisons(piece: Evidence, rules: Sequence[Rule], errors: _Errors) -> Iterator[Comparison]:
    """The comparison that reports show, and every further kind that a rule asks for."""
    for kind in piece.kinds:
        if kind == "value" or (kind != piece.kinds[0] and not _judging(piece, kind, rules)):
            continue
        low, high = errors.of(_judging(piece, kind, rules))
        interval = piece.interval(kind, low, high)
        if interval is None:
            continue
        yield Comparison(
            piece.variant,
            piece.metric,
            piece.conditions,
            kind,
            interval.value,
            interval.low,
            interval.high,
            confidence=1 - low - high,
            replicates=interval.n,
            per_replicate=piece.ratios if isinstance(piece, ReplicateRatios) and kind == "ratio" else (),
        )


def _controls(evidence: Sequence[Evidence], rules: Sequence[Rule], errors: _Errors) -> Iterator[Control]:
    """The control a metric and shape, at the errors of the first candidate's comparison."""
    seen: list[tuple[str, object]] = []
    for piece in evidence:
        place = (piece.metric, dict(piece.conditions))
        if not isinstance(piece, ReplicateRatios) or place in seen:
            continue
        control = piece.control_interval(*errors.of(_judging(piece, "ratio", rules)))
        if control is not None:
            seen.append(place)
            yield Control(
                piece.metric, piece.conditions, control.value, control.low, control.high, control.per_replicate
            )


def _suspicious(rule: Rule, interval: Interval) -> bool:
    """Whether a gain is too good to be believed without a look."""
    lower_is_better = METRICS[rule.metric].direction == "lower"
    if rule.compare == "ratio" and METRICS[rule.metric].family in ("speed", "generation"):
        return interval.high < 1 / IMPLAUSIBLE_SPEED if lower_is_better else interval.low > IMPLAUSIBLE_SPEED
    return rule.metric == "accuracy" and rule.compare == "difference" and interval.low > IMPLAUSIBLE_ACCURACY


def _decided(gates: Sequence[Gate], comparisons: Sequence[Comparison]) -> bool:
    """Whether further replicates can change nothing: only what replicates measure is waited for."""
    timed = [gate for gate in gates if METRICS[gate.metric].family in ("speed", "generation")]
    told_anew = [gate for gate in gates if gate.metric in OF_PROCESSES]
    if any(gate.verdict == "inconclusive" for gate in (*timed, *told_anew)):
        return False
    if timed:
        return True
    whole = (each for each in comparisons if each.per_replicate and "past_length" not in each.conditions)
    shown = [each for each in whole if each.metric in ("latency_p50", "tpot")]
    return all((each.high - each.low) / 2 <= PRECISE_ENOUGH * each.value for each in shown)


def _exit_code(
    gates: Sequence[Gate],
    rules: Sequence[Rule],
    states: Mapping[str, VariantState],
    required: Sequence[str],
    inconclusive: Literal["fail", "warn"],
) -> int:
    """The first that applies: 4 a variant failed or a named one is unavailable, 1 a rule failed, 3 undecided, 0."""
    named = {*required, *(name for rule in rules for name in rule.variants)}
    if any(
        state.status == "failed" or (state.status == "unavailable" and name in named) for name, state in states.items()
    ):
        return 4
    if any(gate.verdict == "fail" for gate in gates):
        return 1
    open_ = {gate.verdict for gate in gates} & {"not_evaluated", *(("inconclusive",) if inconclusive == "fail" else ())}
    return 3 if open_ else 0
