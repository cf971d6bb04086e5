"""Changed answers: the examples that each candidate answers otherwise than the baseline, and how they changed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..bench.results import Flip
from .findings import Findings

_LETTERS = 200
"""So much of an example's text is shown; its number says where the rest is."""


@dataclass(frozen=True)
class FlipView:
    """The changed answers of a variant: how they changed in a sentence, and the examples."""

    variant: str
    sentence: str
    flips: tuple[tuple[Flip, str], ...]


def views(findings: Findings) -> Iterator[FlipView]:
    """The changed answers by variant, each said to be newly right, newly wrong or wrong otherwise."""
    groups: dict[str, list[Flip]] = {}
    for flip in findings.results.flips:
        groups.setdefault(flip.variant, []).append(flip)
    for variant, flips in groups.items():
        named = tuple((replace(flip, text=_cut(flip.text)), _how(flip)) for flip in flips)
        kinds = [how for _, how in named]
        counted = ", ".join(f"{kinds.count(how)} {how}" for how in dict.fromkeys(kinds))
        total = _changed(findings, variant)
        shown = (
            f"the first {len(flips)} of {total} changed answers"
            if total > len(flips)
            else f"{len(flips)} changed answer{'s' if len(flips) > 1 else ''}"
        )
        yield FlipView(variant, f"{shown}: {counted}", named)


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else text[:_LETTERS].rstrip() + " …"


def _how(flip: Flip) -> str:
    if not flip.label:
        return "changed"
    if flip.prediction == flip.label:
        return "newly right"
    return "newly wrong" if flip.baseline_prediction == flip.label else "wrong otherwise"


def _changed(findings: Findings, variant: str) -> int:
    """How many answers of a variant differ from the baseline's, by its agreement; 0 where that was not measured."""
    found = findings.measurement(variant, "agreement", {})
    return round((1 - found.value) * found.n) if found and found.value is not None else 0
