"""The charts as Vega-Lite specs made with Altair; colours are CSS variables: one drawing serves both schemes."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import altair as alt

from ..bench.metrics import METRICS, Conditions
from ..bench.results import Comparison, Control, Measurement, ReliabilityBin
from . import words
from .findings import Findings
from .looks import Look, looks
from .run_folder import Run
from .scales import Axis, axis_for, place_labels
from .series import LEVELS, Curve, curves, frontier
from .tables import control_sentence
from .vegalite import (
    COLOUR,
    HEIGHT,
    MUTED,
    SHAPE,
    WIDTH,
    data,
    lines,
    milliseconds,
    quality,
    scale,
    shares,
    spec,
    ticks,
)

Group = Literal["tradeoff", "distribution", "ratios", "throughput", "past", "reliability"]
Point = dict[str, Any]

SHAPES_DRAWN = 4
"""Charts are drawn for the first shapes only; the tables hold all of them."""
VARIANTS_DRAWN = 24
"""Charts are drawn with the baseline and the first candidates only; the tables hold all of them."""
_LABELLED = 14
"""Of more points than this only those on the Pareto front are named."""

_LEAST_IN_BIN = 10
"""A bin of fewer answers says little of how far a confidence can be trusted."""

_NARROW, _ROW, _WIDE = 280, 24, 0.1
"""Of a chart with a row a variant: its width beside the names, the height of a row, and the range that is told in whole percents."""
_LETTER = 6.6
"""Width of a letter of a row's label in pixels, with room for wider fonts than the renderer's."""
_TWIN = Look(MUTED, "circle", (1, 0))


@dataclass(frozen=True)
class Chart:
    """A chart before it is drawn.

    Attributes:
        group: where it stands on the page.
        title: its heading.
        description: its content for those who cannot see it.
        spec: how to draw it, in Vega-Lite.
        caption: a sentence below it.
    """

    group: Group
    title: str
    description: str
    spec: dict[str, Any]
    caption: str = ""


def charts_of(run: Run, findings: Findings) -> list[Chart]:
    """Every chart that a run gives ground for, in the order of the page.

    Raises:
        InputError: a samples file of the run is damaged.
    """
    shapes = findings.shapes[:SHAPES_DRAWN]
    total = len(findings.results.variants)
    look = dict(itertools.islice(looks(findings).items(), VARIANTS_DRAWN))
    drawn = [
        *(_tradeoff(findings, each, look) for each in shapes),
        *_distributions(curves(run.folder), findings, shapes, look),
        *(_ratios(findings, each, look) for each in shapes),
        *_throughputs(findings, look),
        *(_past(findings, each, look) for each in shapes),
        _reliability(findings, look),
    ]
    found = [chart for chart in drawn if chart is not None]
    if total <= VARIANTS_DRAWN:
        return found
    remark = f"Drawn: the first {VARIANTS_DRAWN} of {total} variants."
    return [replace(chart, caption=f"{chart.caption} {remark}".strip()) for chart in found]


def _tradeoff(findings: Findings, conditions: Conditions, look: Mapping[str, Look]) -> Chart | None:
    """Quality against speed with both intervals, and the Pareto front by the point estimates."""
    points = _points(findings, conditions, look)
    if findings.quality is None or len(points) < 2:  # noqa: PLR2004 - one point is no comparison
        return None
    rising = METRICS[findings.quality].direction == "higher"
    x_axis = axis_for([value for each in points for value in (each["x_low"], each["x_high"])], WIDTH, room_after=0.3)
    y_axis = axis_for([value for each in points for value in (each["y_low"], each["y_high"])], HEIGHT, linear=True)
    front = frontier([(each["x"], each["y"] if rising else -each["y"]) for each in points])
    for index, each in enumerate(points):
        each["fill"] = each["colour"] if index in front else "var(--card)"
    named = points if len(points) <= _LABELLED else [points[index] for index in front]
    _write_labels(named, x_axis, y_axis, rising=rising)
    layers = _tradeoff_layers(
        milliseconds("x", x_axis, findings.speed), quality(findings.quality, y_axis, rising=rising)
    )
    rows = {
        "points": points,
        "front": [points[index] for index in front],
        "left": [each for each in named if each["left"]],
        "right": [each for each in named if not each["left"]],
    }
    said = "; ".join(each["said"] for each in points)
    best = ", ".join(points[index]["variant"] for index in front)
    title = f"{words.title(findings.quality).capitalize()} against {words.title(findings.speed)}"
    description = f"{said}. On the Pareto front: {best}."
    return Chart("tradeoff", _titled(title, findings, conditions), description, spec(layers, rows))


def _points(findings: Findings, conditions: Conditions, look: Mapping[str, Look]) -> list[Point]:
    """The variants with both a speed and a quality, as points with their intervals."""
    points = []
    for row in findings.results.variants:
        speed = findings.measurement(row.name, findings.speed, conditions)
        quality = findings.measurement(row.name, findings.quality or "", conditions)
        if row.name not in look or not (speed and quality) or speed.value is None or quality.value is None:
            continue
        said = (
            f"{row.name}: {words.quantity(speed.metric, speed.value)}, {words.quantity(quality.metric, quality.value)}"
        )
        point: Point = {"variant": row.name, "said": said, **look[row.name].data()}
        for name, each, value in (("x", speed, speed.value), ("y", quality, quality.value)):
            point |= {name: value, f"{name}_low": value if each.low is None else each.low}
            point[f"{name}_high"] = value if each.high is None else each.high
        points.append(point)
    return points


def _write_labels(points: Sequence[Point], x_axis: Axis, y_axis: Axis, *, rising: bool) -> None:
    """Give each point the height and side of its label."""

    def from_top(value: float) -> float:
        return y_axis.pixels - y_axis.pixel(value) if rising else y_axis.pixel(value)

    pixels = [(x_axis.pixel(each["x"]), from_top(each["y"])) for each in points]
    places = place_labels(pixels, [each["variant"] for each in points], x_axis.pixels, y_axis.pixels)
    for each, place in zip(points, places, strict=True):
        each["left"] = place.left
        each["label_y"] = y_axis.value(y_axis.pixels - place.y if rising else place.y)


def _tradeoff_layers(x: alt.X, y: alt.Y) -> list[alt.Chart]:
    points, front = data("points"), data("front")
    return [
        front.mark_line(interpolate="step-after", strokeDash=[4, 4], strokeWidth=1.5, color=MUTED).encode(x, y),
        points.mark_rule(strokeWidth=1.5, opacity=0.5).encode(x, alt.Y("y_low:Q"), alt.Y2("y_high"), COLOUR),
        points.mark_rule(strokeWidth=1.5, opacity=0.5).encode(alt.X("x_low:Q"), y, alt.X2("x_high"), COLOUR),
        points.mark_point(size=75, strokeWidth=2, opacity=1).encode(
            x, y, COLOUR, SHAPE, alt.Fill("fill:N", scale=None)
        ),
        *_labels("left", "right", -9, x),
        *_labels("right", "left", 9, x),
    ]


def _labels(side: str, align: Literal["left", "right"], dx: int, x: alt.X) -> list[alt.Chart]:
    """The names of the points on one side, over a halo that keeps them readable across lines."""
    halo = data(side).mark_text(
        align=align, dx=dx, baseline="middle", fontWeight=500, stroke="var(--card)", strokeWidth=4, strokeJoin="round"
    )
    text = data(side).mark_text(align=align, dx=dx, baseline="middle", fontWeight=500)
    return [each.encode(x, alt.Y("label_y:Q"), alt.Text("variant:N"), COLOUR) for each in (halo, text)]


def _distributions(
    found: Sequence[Curve], findings: Findings, shapes: Sequence[Conditions], look: Mapping[str, Look]
) -> Iterator[Chart]:
    """The share of calls that took at most so long: a curve a variant, a chart a shape and kind of sample."""
    for conditions in shapes:
        here = [each for each in found if each.conditions == conditions and each.variant in look]
        for what in dict.fromkeys(each.what for each in here):
            yield _distribution(what, [each for each in here if each.what == what], findings, conditions, look)


def _distribution(
    what: str, here: Sequence[Curve], findings: Findings, conditions: Conditions, look: Mapping[str, Look]
) -> Chart:
    rows = [
        {"variant": each.variant, "ms": value, "share": level, **look[each.variant].data()}
        for each in here
        for value, level in zip(each.milliseconds, LEVELS.tolist(), strict=True)
    ]
    x_axis = axis_for([row["ms"] for row in rows], WIDTH)
    layers = [lines("curves", milliseconds("ms", x_axis, None), shares())]
    middle = len(LEVELS) // 2
    said = "; ".join(
        f"{each.variant}: median {words.significant(each.milliseconds[middle])} ms, n {each.n:,}" for each in here
    )
    title = _titled(f"Distribution of {what}", findings, conditions)
    return Chart("distribution", title, f"{said}.", spec(layers, {"curves": rows}))


def _ratios(findings: Findings, conditions: Conditions, look: Mapping[str, Look]) -> Chart | None:
    """How far every single replicate lies from its variant's ratio, with the interval; the control's from 1."""
    controls = [
        each for each in findings.results.control if each.metric == findings.speed and each.conditions == conditions
    ]
    compared = [findings.comparison(row.name, findings.speed, conditions, "ratio") for row in findings.results.variants]
    bars: list[Point] = [_spread("control", each, 1.0, _TWIN) for each in controls]
    bars += [
        _spread(each.variant, each, each.value, look[each.variant])
        for each in compared
        if each and each.variant in look
    ]
    if not bars:
        return None
    dots = [{**each, "at": at} for each in bars for at in each["replicates"]]
    x_axis = axis_for(
        [*(value for each in bars for value in (each["low"], each["high"])), *(each["at"] for each in dots), 0.0],
        _NARROW,
        linear=True,
    )
    said = "; ".join(each["said"] for each in bars)
    title = _titled(f"Replicates of the {words.title(findings.speed)} ratio", findings, conditions)
    layers = _ratio_layers(x_axis, [each["name"] for each in bars])
    drawn = spec(layers, {"bars": bars, "dots": dots, "zero": [{"at": 0.0}]}, width=_NARROW, height=_ROW * len(bars))
    return Chart("ratios", title, f"{said}.", drawn, control_sentence(findings, conditions))


def _spread(name: str, each: Comparison | Control, centre: float, look: Look) -> Point:
    """A row of the chart: replicates and interval as relative distances from `centre`."""
    return {
        "name": f"{name}  {words.significant(each.value)}x",
        "said": f"{name}: {each.value:.3f} [{each.low:.3f}, {each.high:.3f}], {len(each.per_replicate)} replicates",
        "low": each.low / centre - 1,
        "high": each.high / centre - 1,
        "value": each.value / centre - 1,
        "replicates": [ratio / centre - 1 for ratio in each.per_replicate],
        **look.data(),
    }


def _ratio_layers(x_axis: Axis, names: Sequence[str]) -> list[alt.Chart]:
    extent = _LETTER * max(map(len, names))
    labels = alt.Axis(grid=False, ticks=False, domain=False, labelLimit=0, labelPadding=8, minExtent=extent)
    y = alt.Y("name:N", sort=list(names), title=None, axis=labels)
    x = alt.X(
        "at:Q",
        title="distance from the variant's ratio (the control's from 1)",
        axis=alt.Axis(
            format="+.0%" if x_axis.high - x_axis.low > _WIDE else "+.1%", tickCount=5, labelOverlap="greedy"
        ),
        scale=scale(x_axis),
    )
    return [
        data("zero").mark_rule(color=MUTED, strokeWidth=1).encode(x),
        data("bars").mark_rule(strokeWidth=3, opacity=0.35).encode(alt.X("low:Q"), y, alt.X2("high"), color=COLOUR),
        data("dots").mark_point(filled=True, size=30, opacity=0.75).encode(x, y, COLOUR),
        data("bars").mark_tick(thickness=2.5, size=15).encode(alt.X("value:Q"), y, color=COLOUR),
    ]


def _throughputs(findings: Findings, look: Mapping[str, Look]) -> Iterator[Chart]:
    """Throughput against batch size, wherever several batch sizes were measured with all else equal."""
    if findings.throughput is None:
        return
    groups: dict[tuple[tuple[str, Any], ...], list[Conditions]] = {}
    for conditions in findings.shapes:
        if "rate" in conditions:
            continue  # what arrives at a given rate is what is served
        rest = tuple((key, value) for key, value in conditions.items() if key != "batch_size")
        groups.setdefault(rest, []).append(conditions)
    for rest, shapes in list(groups.items())[:SHAPES_DRAWN]:
        if len(shapes) > 1:
            yield _throughput(findings, dict(rest), shapes, look, alone=len(groups) == 1)


def _throughput(
    findings: Findings, rest: Conditions, shapes: Sequence[Conditions], look: Mapping[str, Look], *, alone: bool
) -> Chart:
    metric = findings.throughput or ""
    found = [
        (row.name, each["batch_size"], findings.measurement(row.name, metric, each))
        for row in findings.results.variants
        if row.name in look
        for each in shapes
    ]
    rows: list[Point] = [
        {"variant": name, "at": batch, "value": each.value, **look[name].data()}
        for name, batch, each in found
        if each is not None and each.value is not None
    ]
    unit = METRICS[metric].unit
    said = "; ".join(f"{row['variant']}, batch {row['at']}: {words.significant(row['value'])} {unit}" for row in rows)
    title = "Throughput against batch size" + ("" if alone else f", {words.shape(rest)}")
    x = alt.X("at:O", title="batch size", axis=alt.Axis(labelAngle=0))
    return Chart("throughput", title, f"{said}.", _over(x, f"{unit}, higher is better", rows))


def _past(findings: Findings, conditions: Conditions, look: Mapping[str, Look]) -> Chart | None:
    """Time per output token against the length of the past, where a shape's requests were long enough to tell."""
    rows: list[Point] = [
        {
            "variant": each.variant,
            "at": each.conditions["past_length"],
            "value": each.value,
            **look[each.variant].data(),
        }
        for each in findings.results.measurements
        if each.metric == "tpot" and each.value is not None and each.variant in look and _at_past(each, conditions)
    ]
    if not rows:
        return None
    said = "; ".join(f"{row['variant']}, past {row['at']}: {words.significant(row['value'])} ms" for row in rows)
    title = _titled("Time per output token against past length", findings, conditions)
    x = alt.X("at:O", title="tokens in the cache", axis=alt.Axis(labelAngle=0))
    return Chart("past", title, f"{said}.", _over(x, "TPOT in ms, lower is better", rows))


def _at_past(each: Measurement, conditions: Conditions) -> bool:
    """Whether a measurement is one of a part of this shape's requests."""
    rest = {key: value for key, value in each.conditions.items() if key != "past_length"}
    return "past_length" in each.conditions and rest == dict(conditions)


def _reliability(findings: Findings, look: Mapping[str, Look]) -> Chart | None:
    """Accuracy against confidence, bin by bin; on the diagonal a model is right as often as it says."""
    found = [each for each in findings.results.reliability if each.variant in look]
    shown = [each for each in found if each.n >= _LEAST_IN_BIN]
    if not shown:
        return None
    rows: list[Point] = [
        {
            "variant": each.variant,
            "at": each.confidence,
            "value": each.accuracy,
            "n": each.n,
            **look[each.variant].data(),
        }
        for each in shown
    ]
    low = min(0.9, math.floor(10 * min(min(row["at"], row["value"]) for row in rows)) / 10)
    ends = [{"at": end, "value": end} for end in (low, 1)]
    labels, domain = alt.Axis(format=".0%", tickCount=5), alt.Scale(domain=[low, 1])
    x = alt.X("at:Q", title="confidence, mean of a bin", axis=labels, scale=domain)
    y = alt.Y("value:Q", title="accuracy", axis=labels, scale=domain)
    size = alt.Size("n:Q", legend=None, scale=alt.Scale(range=[15, 90], zero=False))
    layers = [
        data("diagonal").mark_line(strokeDash=[4, 4], strokeWidth=1.5, color=MUTED).encode(x, y),
        lines("bins", x, y),
        data("bins").mark_point(filled=True, opacity=1).encode(x, y, COLOUR, SHAPE, size),
    ]
    said = "; ".join(_trust([each for each in found if each.variant == name]) for name in _variants(found))
    left = sum(each.n for each in found) - sum(each.n for each in shown)
    drawn = spec(layers, {"diagonal": ends, "bins": rows})
    return Chart("reliability", "Accuracy against confidence", f"{said}.", drawn, _left_out(left))


def _variants(bins: Sequence[ReliabilityBin]) -> list[str]:
    return list(dict.fromkeys(each.variant for each in bins))


def _trust(bins: Sequence[ReliabilityBin]) -> str:
    """How sure a variant is and how often it is right, over all its bins."""
    n = sum(each.n for each in bins)
    confidence, accuracy = (
        words.quantity("accuracy", sum(each.n * getattr(each, share) for each in bins) / n)
        for share in ("confidence", "accuracy")
    )
    return f"{bins[0].variant}: mean confidence {confidence}, accuracy {accuracy}"


def _left_out(answers: int) -> str:
    return f"Bins of fewer than {_LEAST_IN_BIN} answers are not drawn; they hold {answers:,}." if answers else ""


def _over(x: alt.X, title: str, rows: Sequence[Point]) -> dict[str, Any]:
    """A line with marks a variant: `value` over `at`."""
    axis = axis_for([row["value"] for row in rows], HEIGHT)
    y = alt.Y("value:Q", title=title, axis=ticks(axis), scale=scale(axis))
    marks = data("rows").mark_point(filled=True, size=55, opacity=1).encode(x, y, COLOUR, SHAPE)
    return spec([lines("rows", x, y), marks], {"rows": rows})


def _titled(text: str, findings: Findings, conditions: Conditions) -> str:
    return f"{text}, {words.shape(conditions, among=findings.shapes)}" if len(findings.shapes) > 1 else text
