"""Accuracy within slices of the data."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.predictions import read_class_predictions
from weighbridge.bench.results import Comparison, Measurement, Results, read_results
from weighbridge.reports import render, slices
from weighbridge.reports.findings import Findings

Make = Callable[..., Any]


def within(variant: str, value: str, accuracy: float, n: int) -> Measurement:
    return Measurement(variant, "accuracy", "1", {"slice": f"language={value}"}, accuracy, 0.1, 0.95, n, 0.01)


@pytest.fixture
def sliced(results_of: Make, candidate: Make) -> Results:
    """Two languages, one of which holds an equals sign."""
    found: Results = results_of(candidate("int8"))
    rows = [within(name, value, 0.9, n) for name in ("base", "int8") for value, n in (("de", 40), ("a=b", 60))]
    changed = Comparison("int8", "accuracy", {"slice": "language=de"}, "difference", -0.02, -0.05, 0.01, 0.99, 40)
    return dataclasses.replace(
        found, measurements=(*found.measurements, *rows), comparisons=(*found.comparisons, changed)
    )


def test_a_table_a_column_with_a_row_a_value(sliced: Results) -> None:
    """Each value has its own n; a candidate shows its change within the slice, never the change on all examples."""
    (table,) = slices.tables_of(Findings(sliced))
    assert (table.column, table.metric, table.variants, table.left_out) == ("language", "accuracy", ("base", "int8"), 0)
    assert [(row.value, row.n) for row in table.rows] == [("de", 40), ("a=b", 60)]
    assert [(cell.text, cell.detail) for cell in table.rows[0].cells] == [
        ("90.0 %", "[10.0, 95.0]"),
        ("90.0 %", "-2.0 points [-5.0, +1.0]"),
    ]
    assert table.rows[1].cells[1].detail == "[10.0, 95.0]"


def test_variants_beyond_the_twelfth_are_counted(sliced: Results) -> None:
    """Of fourteen variants twelve have a column, and the table knows of the two that have none."""
    more = tuple(within(f"v{number}", "de", 0.8, 40) for number in range(12))
    (table,) = slices.tables_of(Findings(dataclasses.replace(sliced, measurements=(*sliced.measurements, *more))))
    assert (len(table.variants), table.left_out) == (12, 2)
    assert len(table.rows[0].cells) == 12
    assert table.rows[1].cells[-1].text == ""


def test_without_slices_there_is_no_table(results_of: Make, candidate: Make) -> None:
    """A run whose data kept no column has no such section."""
    assert not list(slices.tables_of(Findings(results_of(candidate("int8")))))


def test_a_real_runs_slices_are_those_of_its_predictions(classifier_run: Path, tmp_path: Path) -> None:
    """The accuracy on the page is that of the kept answers within the value, whose markup stays text."""
    (table,) = slices.tables_of(Findings(read_results(classifier_run)))
    row = next(each for each in table.rows if each.value == "<b>forum</b>")
    answers = read_class_predictions(classifier_run)["ort-int8"].sliced["source=<b>forum</b>"]
    cell = row.cells[table.variants.index("ort-int8")]
    assert (row.n, cell.sort) == (1000, pytest.approx(answers.correct.mean()))
    assert "points [" in cell.detail
    page = render(classifier_run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Accuracy by source" in page
    assert "<b>forum" not in page
