"""Recall by class: the classes of each candidate, those that lost most first, and what a reader should know of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..bench.results import ClassRecall, Comparison, Results
from . import words

SHOWN = 10
"""So many classes of a candidate are shown in full; the rest is folded away."""
CAPTION = (
    "The classes that lost most come first. The intervals of the changes hold for all classes of a variant together at 95 % "
    "(Bonferroni), so that one may be picked out; a class with few examples has a wide one."
)


@dataclass(frozen=True)
class ClassRow:
    """One class in words, with the numbers to sort by."""

    recall: ClassRecall
    baseline: str
    candidate: str
    change: str
    bounds: str


@dataclass(frozen=True)
class ClassView:
    """The classes of a candidate: a sentence, the rows to show and those to fold away; `lost` where a class surely lost."""

    variant: str
    sentence: str
    shown: tuple[ClassRow, ...]
    folded: tuple[ClassRow, ...]
    lost: bool


def views(results: Results) -> Iterator[ClassView]:
    """One view a candidate, in the order of the run."""
    for variant in dict.fromkeys(each.variant for each in results.class_recalls):
        ordered = _ordered(each for each in results.class_recalls if each.variant == variant)
        rows = tuple(_row(each) for each in ordered)
        yield ClassView(variant, _sentence(ordered[0]), rows[:SHOWN], rows[SHOWN:], ordered[0].high < 0)


def _ordered(recalls: Iterator[ClassRecall]) -> list[ClassRecall]:
    return sorted(recalls, key=lambda each: (each.difference, each.n))


def _row(each: ClassRecall) -> ClassRow:
    baseline, candidate = (words.quantity("accuracy", share) for share in (each.baseline, each.candidate))
    return ClassRow(each, baseline, candidate, *_change(each))


def _change(each: ClassRecall) -> tuple[str, str]:
    """The change and its interval in points."""
    compared = Comparison(
        each.variant, "accuracy", {}, "difference", each.difference, each.low, each.high, 0.95, each.n
    )
    return words.change(compared), words.change_bounds(compared)


def _sentence(worst: ClassRecall) -> str:
    if worst.difference >= 0:
        return "no class lost"
    said = f"{worst.class_name} {' '.join(_change(worst))}, n = {worst.n:,}"
    return f"lost most: {said}" if worst.high < 0 else f"no class has surely lost; most: {said}"


def loss_sentence(results: Results) -> str:
    """The class that surely lost most of any candidate's, in a sentence; empty where no interval excludes 0."""
    lost: Sequence[ClassRecall] = _ordered(each for each in results.class_recalls if each.high < 0)
    if not lost:
        return ""
    others = len({each.variant for each in lost}) - 1
    more = f"; {others} other{'s' if others > 1 else ''} lost in some class too, see report.html" if others else ""
    worst = lost[0]
    return f"Recall by class: {worst.variant} lost most in {worst.class_name}, {' '.join(_change(worst))}, n = {worst.n:,}{more}"
