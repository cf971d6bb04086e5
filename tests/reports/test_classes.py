"""Recall by class and the quality table: what lost most comes first, in the page and in the summary."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.results import ClassRecall, Gate, Results, read_results, write_results
from weighbridge.reports import classes, render, verdicts
from weighbridge.reports.findings import Findings
from weighbridge.reports.tables import quality_table

Make = Callable[..., Any]


def recall(variant: str, name: str, difference: float, half: float = 0.05, n: int = 100) -> ClassRecall:
    return ClassRecall(variant, name, n, 0.9, 0.9 + difference, difference, difference - half, difference + half)


@pytest.fixture
def with_classes(results_of: Make, candidate: Make) -> Results:
    """Two candidates: one that surely lost in two classes, one that lost in none."""
    found: Results = results_of(candidate("int8"), candidate("fp16"))
    recalls = (
        recall("int8", "card", 0.01),
        recall("int8", "loan", -0.2, n=40),
        recall("int8", "refund", -0.1),
        recall("fp16", "card", 0.0),
        recall("fp16", "loan", -0.01, n=40),
    )
    return dataclasses.replace(found, class_recalls=recalls)


def test_the_classes_that_lost_most_come_first(with_classes: Results) -> None:
    """Each candidate's classes are in the order of their change, and the sentence says whether the loss is sure."""
    int8, fp16 = classes.views(with_classes)
    assert [row.recall.class_name for row in int8.shown] == ["loan", "refund", "card"]
    assert (int8.lost, int8.sentence) == (True, "lost most: loan -20.0 points [-25.0, -15.0], n = 40")
    assert (fp16.lost, fp16.sentence) == (
        False,
        "no class has surely lost; most: loan -1.0 points [-6.0, +4.0], n = 40",
    )
    (only,) = classes.views(dataclasses.replace(with_classes, class_recalls=(recall("fp16", "card", 0.0),)))
    assert only.sentence == "no class lost"


def test_many_classes_are_folded(with_classes: Results, tmp_path: Path) -> None:
    """Of 77 classes ten are shown and 67 folded away; all are on the page."""
    many = tuple(recall("int8", f"class <{number}>", -number / 1000) for number in range(77))
    results = dataclasses.replace(with_classes, class_recalls=many)
    (view,) = classes.views(results)
    assert (len(view.shown), len(view.folded)) == (classes.SHOWN, 67)
    assert view.shown[0].recall.class_name == "class <76>"
    write_results(results, tmp_path)
    page = render(tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "67 more classes" in page
    assert page.count("class &lt;") >= 77
    assert "class <" not in page


def test_the_page_opens_what_surely_lost(with_classes: Results, tmp_path: Path) -> None:
    """The table of a candidate with a sure loss is open, the other's folded; the caption says what the intervals hold for."""
    write_results(with_classes, tmp_path)
    page = render(tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<details class="card" open><summary><strong>int8</strong>: lost most: loan' in page
    assert '<details class="card"><summary><strong>fp16</strong>: no class has surely lost' in page
    assert "hold for all classes of a variant together at 95 %" in page


def test_the_summary_names_the_class_that_lost_most(with_classes: Results, tmp_path: Path) -> None:
    """One line where an interval excludes 0, of the class that lost most; none where no loss is sure."""
    write_results(with_classes, tmp_path)
    line = "Recall by class: int8 lost most in loan, -20.0 points [-25.0, -15.0], n = 40"
    assert line in render(tmp_path, tmp_path / "a.md", "md").read_text(encoding="utf-8").splitlines()
    both = (*with_classes.class_recalls, recall("fp16", "refund", -0.3))
    assert classes.loss_sentence(dataclasses.replace(with_classes, class_recalls=both)) == (
        "Recall by class: fp16 lost most in refund, -30.0 points [-35.0, -25.0], n = 100; "
        "1 other lost in some class too, see report.html"
    )
    unsure = dataclasses.replace(with_classes, class_recalls=with_classes.class_recalls[3:])
    write_results(unsure, tmp_path)
    assert "Recall by class" not in render(tmp_path, tmp_path / "b.md", "md").read_text(encoding="utf-8")


def test_class_recalls_are_read_back_from_a_run(classifier_run: Path) -> None:
    """A run's results hold each class of each candidate that was weighed, whose counts add up to the examples."""
    results = read_results(classifier_run)
    rows = [each for each in results.class_recalls if each.variant == "ort-int8-static"]
    assert len(rows) == 6
    assert sum(each.n for each in rows) == 3000
    assert len({each.variant for each in results.class_recalls}) == 6


def test_every_quality_value_stands_with_n_and_standard_error(classifier_run: Path) -> None:
    """The quality table has a column for n and one a metric; each cell a standard error, a candidate's its change."""
    table = quality_table(Findings(read_results(classifier_run)))
    titles = [column.title for column in table.columns]
    assert titles[:2] == ["n", "accuracy"]
    assert {"f1 macro", "log loss", "worst class recall", "roc auc"} <= set(titles)
    by_name = {row.variant.name: row for row in table.rows}
    for row in (by_name["torch-fp32"], by_name["ort-int8"]):
        assert row.cells[0].text == "3,000"
        assert {title for title, cell in zip(titles, row.cells, strict=True) if "±" not in cell.text} <= {
            "n",
            "agreement",
        }
    change = by_name["ort-int8"].cells[titles.index("f1 macro")].detail
    assert change.startswith("-0.2 points [")
    assert "class " in by_name["torch-fp32"].cells[titles.index("worst class recall")].detail


def test_accuracy_alone_has_no_table_of_its_own(results_of: Make, candidate: Make) -> None:
    """What the comparison shows already is not repeated."""
    assert quality_table(Findings(results_of(candidate("a")))).columns == ()


def test_rules_on_slices_are_told_apart(results_of: Make, candidate: Make) -> None:
    """The same limit on all examples and within a column are two rules; the second names its column."""
    found: Results = results_of(candidate("a"))
    sliced = [
        Gate("accuracy", "difference", {"min": -0.01}, "a", {"slice": place}, "pass", "said")
        for place in ("language=de", "language=fr", "language")
    ]
    rules = list(verdicts.rules(Findings(dataclasses.replace(found, gates=(*found.gates, *sliced)))))
    assert [len(rule.gates) for rule in rules] == [1, 1, 3]
    assert rules[2].text == "accuracy at least -1 points against base within each language"
