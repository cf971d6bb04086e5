"""The choices of a search, apart from how its trials are made: ranking, rollback, removal, the front. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .search_answers import returned_kl
from .search_findings import Decision, LedgerRow, Phase, Sensitivity
from .search_outcome import Budget, Outcome, cost

LEAST_FLOOR = 0.005
"""Two equal instances differ by up to this share of a call's time: a cost below it counts as this."""

Measure = Callable[[tuple[str, ...], Phase], Outcome | None]
"""Try the searched variant with these layers left in float; None where the time budget has ended."""


@dataclass(frozen=True)
class Step:
    """One step of the rollback: a layer returned to float, or quantized again, `before` and `after`."""

    layer: str
    before: Outcome
    after: Outcome
    decision: Decision

    def row(self, number: int) -> LedgerRow:
        """The step as the ledger shows it; of a removal, too, cost and return are those of the layer in float."""
        if not self.after.ok:
            return LedgerRow(number, self.layer, self.after.number, self.decision, self.after.reason)
        removed = self.decision in ("put back", "needed")
        with_layer, without = (self.before, self.after) if removed else (self.after, self.before)
        return LedgerRow(
            step=number,
            layer=self.layer,
            trial=self.after.number,
            decision=self.decision,
            cost=cost(with_layer, without),
            returned=with_layer.answers.over(without.answers),
            ms=self.after.ms,
            difference=self.after.difference,
            kl=self.after.kl,
        )


@dataclass(frozen=True)
class Found:
    """What a search came to: every layer tried alone, the steps, the best trial, whether it keeps the budget.

    `complete` is False where the time budget ended before the search did.
    """

    sensitivity: tuple[Outcome, ...]
    steps: tuple[Step, ...]
    best: Outcome
    met: bool
    complete: bool


def explore(layers: Sequence[str], whole: Outcome, measure: Measure, budget: Budget, floor: float) -> Found:
    """Try each layer alone, return layers until the budget is kept, then put back those that prove needless, the dearest first.

    Args:
        layers: what is quantized, in graph order.
        whole: the trial with none of them in float.
        measure: makes a trial.
        budget: how much quality may be lost.
        floor: the share of a call's time below which costs cannot be told apart.
    """
    alone = list(_until_ended(measure((layer,), "sensitivity") for layer in layers))
    steps = list(_rollback(ranked(alone, whole, floor), layers, whole, measure, budget))
    now = next((step.after for step in reversed(steps) if step.decision == "left in float"), whole)
    met = budget.met(now)
    ended = len(alone) < len(layers)
    if met:
        dear = sorted((each for each in alone if each.kept[0] in now.kept), key=lambda each: -each.ms.value)
        removals = list(_removals(now, [each.kept[0] for each in dear], measure, budget))
        ended = ended or len(removals) < len(now.kept)
        steps += removals
        now = next((step.after for step in reversed(removals) if step.decision == "put back"), now)
    else:
        ended = ended or len(steps) < len([each for each in alone if each.ok])
        now = max((whole, *(step.after for step in steps if step.after.ok)), key=_accurate_then_fast)
    return Found(tuple(alone), tuple(steps), now, met, complete=not ended)


def ranked(alone: Sequence[Outcome], whole: Outcome, floor: float) -> list[str]:
    """The layers that could be returned, first the one that gives back most KL for its milliseconds."""
    least = max(floor, LEAST_FLOOR) * whole.whole_ms

    def worth(outcome: Outcome) -> float:
        return returned_kl(outcome.answers, whole.answers).value / max(cost(outcome, whole).value, least)

    return [each.kept[0] for each in sorted((each for each in alone if each.ok), key=worth, reverse=True)]


def sensitivity_of(outcome: Outcome, whole: Outcome) -> Sensitivity:
    """What returning one layer gives back, and what it costs."""
    if not outcome.ok:
        return Sensitivity(outcome.kept[0], outcome.number, outcome.reason)
    return Sensitivity(
        layer=outcome.kept[0],
        trial=outcome.number,
        accuracy=outcome.answers.over(whole.answers),
        kl=returned_kl(outcome.answers, whole.answers),
        cost=cost(outcome, whole),
    )


def _rollback(
    order: Sequence[str], layers: Sequence[str], whole: Outcome, measure: Measure, budget: Budget
) -> Iterator[Step]:
    """Return one layer after the other until the budget is kept.

    A layer that alone gives nothing stays returned: with another it may (removal takes it back where it does not).
    """
    now = whole
    for layer in order:
        if budget.met(now):
            return
        wanted = {*now.kept, layer}
        tried = measure(tuple(each for each in layers if each in wanted), "rollback")
        if tried is None:
            return
        yield Step(layer, now, tried, "left in float" if tried.ok else "not built")
        now = tried if tried.ok else now


def _removals(now: Outcome, order: Sequence[str], measure: Measure, budget: Budget) -> Iterator[Step]:
    """Quantize each returned layer again, in this order, where the budget is kept without it and nothing gets slower."""
    for layer in order:
        tried = measure(tuple(each for each in now.kept if each != layer), "removal")
        if tried is None:
            return
        needless = budget.met(tried) and tried.ms.low <= now.ms.high
        yield Step(layer, now, tried, ("put back" if needless else "needed") if tried.ok else "not built")
        now = tried if needless else now


def _until_ended(outcomes: Iterator[Outcome | None]) -> Iterator[Outcome]:
    for outcome in outcomes:
        if outcome is None:
            return
        yield outcome


def _accurate_then_fast(outcome: Outcome) -> tuple[float, float]:
    return outcome.difference.low, -outcome.ms.value


def front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The trials that none beats in both speed and quality beyond both intervals, the fastest first."""
    usable = [each for each in outcomes if each.ok]
    bounds = [(each.ms, each.difference) for each in usable]

    def beaten(place: int) -> bool:
        ms, difference = bounds[place]
        return any(other.high < ms.low and better.low > difference.high for other, better in bounds)

    return sorted((each for place, each in enumerate(usable) if not beaten(place)), key=lambda each: each.ms.value)


def finalists(members: Sequence[Outcome], taken: Sequence[Outcome], most: int) -> list[Outcome]:
    """At most so many of a front to weigh beside those taken: each nearer to the float model than all faster ones.

    They are spread over the speeds; the float model itself is none of them.
    """
    nearer: list[Outcome] = []
    for each in sorted(members, key=lambda each: each.ms.value):
        if not nearer or each.kl < nearer[-1].kl:
            nearer.append(each)
    numbers = {each.number for each in taken}
    left = [each for each in nearer if each.phase != "float" and each.number not in numbers]
    if len(left) <= most:
        return left
    return [left[place] for place in np.linspace(0, len(left) - 1, most).round().astype(int)]
