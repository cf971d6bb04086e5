"""Axes and labels in pixels: round ticks, room around the data, and labels that do not cover each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_FROM = 3.0
"""A range whose ends differ by more than this factor is drawn on a logarithmic axis."""
_LINE, _LETTER, _GAP = 13.0, 6.2, 10.0
"""Height of a label, width of a letter and distance from the point, in pixels."""
_POINT = 6.0
"""Half the width of a point, which no other label covers."""
_MARGIN = 0.06


@dataclass(frozen=True)
class Axis:
    """An axis of so many pixels over a domain; `low` is drawn at pixel 0."""

    low: float
    high: float
    pixels: float
    log: bool

    @property
    def domain(self) -> list[float]:
        """The ends of the axis."""
        return [self.low, self.high]

    @property
    def ticks(self) -> list[float]:
        """Round numbers (1, 2, 5 and their decades) within the domain, for a logarithmic axis."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 10**3 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        return [each for each in found if self.low <= each <= self.high]

    def pixel(self, value: float) -> float:
        """Where a value is drawn."""
        ends = (value, self.low, self.high)
        at, low, high = (math.log(each) for each in ends) if self.log else ends
        return self.pixels * (at - low) / (high - low)

    def value(self, pixel: float) -> float:
        """The value that is drawn at a pixel."""
        share = pixel / self.pixels
        if self.log:
            return self.low * math.exp(share * math.log(self.high / self.low))
        return self.low + share * (self.high - self.low)


def axis_for(values: Sequence[float], pixels: float, *, linear: bool = False, room_after: float = 0.0) -> Axis:
    """An axis that holds all values with a margin, and after them room for labels (a share of the axis)."""
    low, high = min(values), max(values)
    if low == high:
        low, high = (low - 1, high + 1) if low == 0 else sorted((low * 0.9, high * 1.1))
    log = not linear and low > 0 and high / low > _LOG_FROM
    if log:
        span = math.log(high / low)
        return Axis(low * math.exp(-_MARGIN * span), high * math.exp((_MARGIN + room_after) * span), pixels, log=True)
    span = high - low
    return Axis(low - _MARGIN * span, high + (_MARGIN + room_after) * span, pixels, log=False)


@dataclass(frozen=True)
class Label:
    """Where a label is written: its middle in pixels from the top, and whether it stands left of its point."""

    y: float
    left: bool


def place_labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], width: float, height: float
) -> list[Label]:
    """Places for labels beside their points (pixels from the top left) so that none covers another.

    A label stands to the right of its point, or to the left where it would leave the chart; where its place is taken it
    moves up or down to the nearest free one, and keeps off other points where there is room.
    """
    marks = [(x - _POINT, x + _POINT, y) for x, y in points]
    taken: list[tuple[float, float, float]] = []
    places: dict[int, Label] = {}
    for index in sorted(range(len(points)), key=lambda each: points[each][1]):
        x, y = points[index]
        length = _LETTER * len(texts[index])
        left = x + _GAP + length > width and x - _GAP - length > 0
        start = x - _GAP - length if left else x + _GAP
        labels, both = (
            [at for low, high, at in each if low < start + length and start < high] for each in (taken, taken + marks)
        )
        places[index] = Label(_nearest_free(y, both, height, _nearest_free(y, labels, height, y)), left)
        taken.append((start, start + length, places[index].y))
    return [places[index] for index in range(len(points))]


def _nearest_free(y: float, near: Sequence[float], height: float, otherwise: float) -> float:
    """The height nearest to `y`, within the chart, that is a line away from all those near."""
    moved = (y + sign * step for step in range(math.ceil(height)) for sign in (1, -1))
    return next((at for at in moved if 0 <= at <= height and all(abs(at - each) >= _LINE for each in near)), otherwise)
