"""Accuracy within each value of the data columns that a run kept: one table a column, one row a value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..bench.metrics import Conditions
from . import words
from .findings import Findings
from .tables import Cell

MOST_VARIANTS = 12
"""So many variants have a column of their own; the CSV file has all."""


@dataclass(frozen=True)
class SliceRow:
    """A value of the column: its examples, and a cell a variant."""

    value: str
    n: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class SliceTable:
    """A data column: what is shown of which variants; `left_out` variants have no column."""

    column: str
    metric: str
    variants: tuple[str, ...]
    rows: tuple[SliceRow, ...]
    left_out: int


def tables_of(findings: Findings) -> Iterator[SliceTable]:
    """A table for every data column with slices, in the order of the run; none where nothing was sliced."""
    metric = findings.quality or ""
    sliced: dict[str, dict[str, int]] = {}
    variants: dict[str, None] = {}
    for each in findings.results.measurements:
        if each.metric == metric and "slice" in each.conditions:
            column, _, value = str(each.conditions["slice"]).partition("=")
            sliced.setdefault(column, {})[value] = each.n
            variants[each.variant] = None
    shown = list(variants)[:MOST_VARIANTS]
    for column, values in sliced.items():
        rows = tuple(SliceRow(value, n, _cells(findings, shown, f"{column}={value}")) for value, n in values.items())
        yield SliceTable(column, words.title(metric), tuple(shown), rows, len(variants) - len(shown))


def _cells(findings: Findings, variants: Sequence[str], name: str) -> tuple[Cell, ...]:
    return tuple(_cell(findings, variant, {"slice": name}) for variant in variants)


def _cell(findings: Findings, variant: str, conditions: Conditions) -> Cell:
    """The value within the slice, below it the change against the baseline with its interval."""
    metric = findings.quality or ""
    found = findings.exact_measurement(variant, metric, conditions)
    if found is None or found.value is None:
        return Cell()
    changed = findings.exact_comparison(variant, metric, conditions, "difference")
    change = f"{words.change(changed)} {words.change_bounds(changed)}" if changed else words.interval(found)
    return Cell(words.quantity(metric, found.value), change, found.value)
