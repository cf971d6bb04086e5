"""Charts drawn: what a page shows of them, and what it says where they could not be drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..optimize.errors import WorkerError
from .svg import Drawing, accessible

if TYPE_CHECKING:
    from .charts import Chart


@dataclass(frozen=True)
class Figure:
    """A drawn chart with its title, and a sentence below it."""

    group: str
    title: str
    svg: Markup
    caption: str


def draw(make: Callable[[], Sequence[Sequence["Chart"]]]) -> tuple[list[list[Figure]], str]:
    """Draw the charts of each section of a page, all in one child that starts up while `make` makes them.

    Returns:
        The figures of each section; where the child fails none, and a sentence that says why.

    Raises:
        InputError: whatever `make` raises of what it reads.
    """
    drawing = Drawing()
    try:
        sections = make()
        drawn = iter(drawing.draw([chart.spec for charts in sections for chart in charts]))
    except WorkerError as error:
        return [[] for _ in sections], f"This page has no charts: {error}."
    finally:
        drawing.close()
    figures = [
        [_figure(chart, next(drawn), f"r{number}-chart{index}") for index, chart in enumerate(charts)]
        for number, charts in enumerate(sections, 1)
    ]
    return figures, ""


def _figure(chart: "Chart", svg: str, identifier: str) -> Figure:
    return Figure(chart.group, chart.title, accessible(svg, identifier, chart.title, chart.description), chart.caption)
