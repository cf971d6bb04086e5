"""The parts that every chart is put together from: data by name, axes, the finished spec and its style."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from . import words
from .scales import Axis

WIDTH, HEIGHT = 360, 240
MUTED = "var(--muted)"

COLOUR = alt.Color("colour:N", scale=None)
SHAPE = alt.Shape("mark:N", scale=None)
_DASH = alt.StrokeDash("dash:N", scale=None)
"""Colour, mark and dashes stand in the data as they are drawn (looks.py)."""


def data(name: str) -> alt.Chart:
    """A layer over the data of that name, which `spec` puts in."""
    return alt.Chart(alt.NamedData(name))


def lines(name: str, x: alt.X, y: alt.Y) -> alt.Chart:
    """A line a variant over the data of that name."""
    found: alt.Chart = data(name).mark_line(strokeWidth=2).encode(x, y, COLOUR, _DASH, alt.Detail("variant:N"))
    return found


def milliseconds(field: str, axis: Axis, metric: str | None) -> alt.X:
    """A horizontal axis of times."""
    title = f"{words.title(metric)} in ms, lower is better" if metric else "ms"
    return alt.X(f"{field}:Q", title=title, axis=ticks(axis), scale=scale(axis))


def quality(metric: str, axis: Axis, *, rising: bool) -> alt.Y:
    """A vertical axis of a quality, the better end on top."""
    share = words.quantity(metric, 1.0).endswith("%")
    title = f"{words.title(metric)}, {'higher' if rising else 'lower'} is better"
    labels = alt.Axis(format=".1%" if share else "~g", tickCount=5)
    upward = alt.Scale(domain=axis.domain, nice=False, zero=False, reverse=not rising)
    return alt.Y("y:Q", title=title, axis=labels, scale=upward)


def shares() -> alt.Y:
    """A vertical axis of the share of samples that took at most so long."""
    title, labels = "share of samples at most so long", alt.Axis(format=".0%", tickCount=5)
    return alt.Y("share:Q", title=title, axis=labels, scale=alt.Scale(domain=[0, 1]))


def ticks(axis: Axis) -> alt.Axis:
    """Round numbers on a logarithmic axis; elsewhere Vega's own choice."""
    return alt.Axis(format="~g", values=axis.ticks) if axis.log else alt.Axis(format="~g", tickCount=6)


def scale(axis: Axis) -> alt.Scale:
    """The scale of an axis whose ends are known."""
    return alt.Scale(type="log" if axis.log else "linear", domain=axis.domain, nice=False, zero=False)


def spec(
    layers: Sequence[alt.Chart],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> dict[str, Any]:
    """The finished spec; the data is put in afterwards, for Altair checks every value against its schema."""
    chart = alt.layer(*layers).properties(width=width, height=height, background="transparent")
    # The renderer refuses a wrong spec by itself; Altair's own check would take as long as the drawing.
    found: dict[str, Any] = chart.configure(font="system-ui, sans-serif", aria=False).to_dict(validate=False)
    found["config"] |= _STYLE
    found["datasets"] = dict(rows)
    return found


_STYLE: dict[str, Any] = {
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": 400,
        "titlePadding": 8,
    },
    "text": {"fontSize": 11},
}
