"""The comparison tables: one a shape with speed, quality and size, and one of costs; every cell is ready to print."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..bench.metrics import METRICS, Conditions
from ..bench.results import Comparison, Measurement, VariantRow
from . import words
from .findings import Findings
from .verdicts import Standing, standing

_MORE_SPEED = {
    False: ("latency_end_to_end_p50", "latency_p95", "latency_p99", "throughput"),
    True: ("ttft", "itl", "e2e_latency", "output_tokens_per_second"),
}
"""Further speeds of classifiers (False) and of generators (True)."""
_IN_COMPARISON = {"accuracy", "agreement", "perplexity"}
_COSTS = ("parameters", "peak_memory", "load_time", "build_time")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the interval or remark below it, and the number to sort by (None: last)."""

    text: str = ""
    detail: str = ""
    sort: float | None = None


@dataclass(frozen=True)
class Column:
    """A column's heading, what it shows in a sentence, and the unit of its cells where they do not say it."""

    title: str
    help: str
    unit: str = ""


@dataclass(frozen=True)
class TableRow:
    """A variant: what became of it, its cells (none where it was not weighed), and a remark."""

    variant: VariantRow
    standing: Standing
    cells: tuple[Cell, ...]
    remark: str = ""
    suspicious: bool = False


@dataclass(frozen=True)
class Table:
    """A table of variants."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class _Maker:
    """A column with the function that makes its cell."""

    column: Column
    cell: Callable[[VariantRow], Cell]


def shape_tables(findings: Findings) -> Iterator[Table]:
    """A comparison a shape: the main speed, quality and size first; one without a shape where nothing was timed."""
    for conditions in findings.shapes or [{}]:
        makers = [
            *_main_speed(findings, conditions),
            *_quality(findings),
            _size(findings),
            _count(findings, conditions),
            *(
                _absolute(findings, metric, conditions)
                for metric in _MORE_SPEED[findings.is_generator]
                if metric != findings.speed
            ),
            _absolute(findings, "agreement", {}),
        ]
        yield _table(findings, words.shape(conditions), _filled(makers, findings), conditions)


def cost_table(findings: Findings) -> Table:
    """What each variant costs whatever the shape: parameters, memory, load and build time, first calls."""
    makers = [_absolute(findings, metric, {}) for metric in _COSTS]
    for conditions in findings.shapes:
        suffix = f" ({words.shape(conditions, among=findings.shapes)})" if len(findings.shapes) > 1 else ""
        makers.append(_absolute(findings, "first_call", conditions, suffix))
    return _table(findings, "Cost", _filled(makers, findings), None)


def quality_table(findings: Findings) -> Table:
    """Every quality metric on all examples with its standard error and change; no columns where the comparison has all."""
    measured = {each.metric for each in findings.results.measurements if not each.conditions}
    metrics = [each.name for each in METRICS.values() if each.family == "quality" and each.name in measured]
    wanted = metrics if set(metrics) - _IN_COMPARISON else []
    makers = [_with_change(findings, metric) for metric in wanted]
    counted = [_examples(findings), *makers] if makers else []
    return _table(findings, "Quality on all examples", _filled(counted, findings), None)


def _with_change(findings: Findings, metric: str) -> _Maker:
    """A metric with its standard error, and how it changed against the baseline."""

    def cell(row: VariantRow) -> Cell:
        found = findings.measurement(row.name, metric, {})
        if found is None or found.value is None:
            return Cell()
        text = f"{words.quantity(metric, found.value)} {words.standard_error(metric, found.standard_error)}"
        changed = findings.comparison(row.name, metric, {}, "difference") or findings.comparison(
            row.name, metric, {}, "ratio"
        )
        change = f"{words.change(changed)} {words.change_bounds(changed)}" if changed else ""
        count = f"n = {found.n:,}" if findings.is_generator else ""
        return Cell(text, ", ".join(filter(None, [change, found.note, count])), found.value)

    return _Maker(Column(words.title(metric), METRICS[metric].formula), cell)


def _examples(findings: Findings) -> _Maker:
    def count(row: VariantRow) -> Cell:
        found = findings.measurement(row.name, "accuracy", {})
        return Cell(f"{found.n:,}", "", found.n) if found else Cell()

    return _Maker(Column("n", "labelled examples"), count)


def _table(findings: Findings, title: str, makers: Sequence[_Maker], conditions: Conditions | None) -> Table:
    rows = []
    for row in findings.results.variants:
        cells = tuple(each.cell(row) for each in makers) if row.status == "ok" else ()
        remark = row.reason if row.status != "ok" else row.note
        suspicious = any(gate.suspicious for gate in findings.gates(row.name, conditions))
        rows.append(TableRow(row, standing(findings, row, conditions), cells, remark, suspicious))
    return Table(title, tuple(each.column for each in makers), tuple(rows))


def _filled(makers: Sequence[_Maker], findings: Findings) -> list[_Maker]:
    """The columns that hold anything; of two with one title the first."""
    by_title = {each.column.title: each for each in reversed(makers)}
    filled = [each for each in makers if any(each.cell(row).text for row in findings.results.variants)]
    return [each for each in filled if by_title[each.column.title] is each]


def _main_speed(findings: Findings, conditions: Conditions) -> list[_Maker]:
    def compared(row: VariantRow) -> Cell:
        found = findings.comparison(row.name, findings.speed, conditions, "ratio")
        if found is None:
            return Cell("1x", "", 1.0) if row.baseline and findings.shapes else Cell()
        return Cell(words.speedup(found), words.speedup_bounds(found), found.value)

    meaning = f"ratio of {words.title(findings.speed)} to {findings.baseline}, turned so that more is faster"
    return [_absolute(findings, findings.speed, conditions), _Maker(Column("vs baseline", meaning), compared)]


def _count(findings: Findings, conditions: Conditions) -> _Maker:
    def count(row: VariantRow) -> Cell:
        found = findings.measurement(row.name, findings.speed, conditions)
        ratio = findings.comparison(row.name, findings.speed, conditions, "ratio")
        if found is None:
            return Cell()
        return Cell(f"{found.n:,}", f"{ratio.replicates} replicates" if ratio else "", found.n)

    return _Maker(Column("n", "timed calls, and replicates of the ratio"), count)


def _quality(findings: Findings) -> list[_Maker]:
    """The main quality and its change."""
    if findings.quality is None:
        return []

    def changed(row: VariantRow) -> Cell:
        found = findings.quality_change(row.name)
        return Cell(words.change(found), words.change_bounds(found), found.value) if found else Cell()

    meaning = f"{words.title(findings.quality)} against {findings.baseline}, on the same examples"
    return [_absolute(findings, findings.quality, {}), _Maker(Column("change", meaning), changed)]


def _size(findings: Findings) -> _Maker:
    reference = next((findings.bytes_of(row) for row in findings.results.variants if row.baseline), None)

    def size(row: VariantRow) -> Cell:
        value = findings.bytes_of(row)
        if value is None:
            return Cell()
        return Cell(words.megabytes(value), "" if row.baseline else words.smaller(value, reference), value)

    return _Maker(Column("size", METRICS["artifact_bytes"].formula), size)


def _absolute(findings: Findings, metric: str, conditions: Conditions, suffix: str = "") -> _Maker:
    formula = METRICS[metric].formula if metric in METRICS else ""
    column = Column(words.title(metric) + suffix, formula, words.heading_unit(metric))
    return _Maker(column, lambda row: _value(findings.measurement(row.name, metric, conditions)))


def _value(found: Measurement | None) -> Cell:
    if found is None:
        return Cell()
    if found.value is None or not math.isfinite(found.value):
        return Cell("n/a", found.note)
    text = words.quantity(found.metric, found.value).removesuffix(f" {words.heading_unit(found.metric)}")
    return Cell(text, words.interval(found), found.value)


def control_sentence(findings: Findings, conditions: Conditions) -> str:
    """What the baseline's twin measured at a shape, and the finest difference that this run could tell; else empty."""
    found = next(
        (each for each in findings.results.control if each.metric == findings.speed and each.conditions == conditions),
        None,
    )
    if found is None:
        return ""
    floor = max(found.high - 1, 1 - found.low)
    return (
        f"Control (a twin of {findings.baseline}): {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], "
        f"so changes below {100 * floor:.1f} % cannot be told from none here."
    )


def confidence(comparisons: Sequence[Comparison]) -> str:
    """The confidence of these intervals in percent: the least of them, cut off after two decimals so that none is said to be sure."""
    if not comparisons:
        return ""
    hundredths = round(1e4 * min(each.confidence for each in comparisons), 9)  # what a float is off costs no hundredth
    return f"{math.floor(hundredths) / 100:g} %"
