"""The charts of saved benchmarks: the distribution of the rounds, a chart a group."""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from .charts import Chart
from .looks import look
from .saved_benchmarks import Benchmark, in_words
from .scales import axis_for
from .series import LEVELS
from .vegalite import WIDTH, lines, scale, shares, spec, ticks

_UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9))


def charts_of(groups: Mapping[str, Sequence[Benchmark]]) -> list[Chart]:
    """A chart a group, of benchmarks that have raw data."""
    return [_distribution(name, group) for name, group in groups.items()]


def _distribution(name: str, group: Sequence[Benchmark]) -> Chart:
    unit, factor = _unit(max(each.stats.median for each in group))
    rows = [
        {"variant": each.name, "at": factor * value, "share": level, **look(index).data()}
        for index, each in enumerate(group)
        for value, level in zip(np.quantile(each.stats.data, LEVELS).tolist(), LEVELS.tolist(), strict=True)
    ]
    axis = axis_for([row["at"] for row in rows], WIDTH)
    x = alt.X("at:Q", title=unit, axis=ticks(axis), scale=scale(axis))
    said = "; ".join(
        f"{each.name}: median {in_words(each.stats.median)}, {each.stats.rounds:,} rounds" for each in group
    )
    title = f"Distribution of rounds{f', {name}' if name else ''}"
    return Chart("distribution", title, f"{said}.", spec([lines("rounds", x, shares())], {"rounds": rows}))


def _unit(seconds: float) -> tuple[str, float]:
    """The largest unit in which a time is at least 1, and how many of it a second has."""
    return next(((unit, factor) for unit, factor in _UNITS if seconds * factor >= 1), _UNITS[-1])
