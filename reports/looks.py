"""One look a variant, the same in every chart and table: a colour, a mark, a dash pattern."""

from dataclasses import dataclass
from typing import Any

from .findings import Findings

_PALETTE = 12
"""Colours `--v0` (the baseline) to `--v11` of the page's style; further candidates begin again at `--v1`."""
_MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")
_DASHES = ((1, 0), (6, 3), (2, 2), (9, 3, 2, 3))


@dataclass(frozen=True)
class Look:
    """How a variant looks: the CSS colour, the mark of its points and the dashes of its lines."""

    colour: str
    mark: str
    dash: tuple[int, ...]

    def data(self) -> dict[str, Any]:
        """Colour, mark and dashes as columns of a chart's data."""
        return {"colour": self.colour, "mark": self.mark, "dash": list(self.dash)}


def looks(findings: Findings) -> dict[str, Look]:
    """The look of each variant: the baseline has the first, the candidates follow in the order of the run."""
    candidates = [row.name for row in findings.results.variants if row.name != findings.baseline]
    numbered = {findings.baseline: 0, **{name: index for index, name in enumerate(candidates, 1)}}
    return {name: look(number) for name, number in numbered.items()}


def look(number: int) -> Look:
    """The look of a variant by its number; 0 is the baseline's."""
    colour = number if number < _PALETTE else 1 + (number - 1) % (_PALETTE - 1)
    return Look(f"var(--v{colour})", _MARKS[number % len(_MARKS)], _DASHES[number % len(_DASHES)])
