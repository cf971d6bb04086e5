"""Confusions: a matrix of few classes, a list of many, each beside the baseline's."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.results import ClassRecall, Confusion, Results, read_results, write_results
from weighbridge.reports import confusions, render

Make = Callable[..., Any]


def recall(name: str, n: int, baseline: int, candidate: int) -> ClassRecall:
    shares = baseline / n, candidate / n
    return ClassRecall("int8", name, n, *shares, shares[1] - shares[0], -1.0, 1.0)


@pytest.fixture
def confused(results_of: Make, candidate: Make) -> Results:
    """A candidate that takes 4 of 10 cards for loans, where the baseline took 1, and no more loans for cards."""
    found: Results = results_of(candidate("int8"))
    counted = (
        Confusion("base", "card", "loan", 1),
        Confusion("int8", "card", "loan", 4),
        Confusion("base", "loan", "card", 2),
        Confusion("int8", "loan", "other", 1),
    )
    recalls = (recall("card", 10, 9, 6), recall("loan", 20, 18, 19))
    return dataclasses.replace(found, class_recalls=recalls, confusions=counted)


def test_few_classes_are_a_matrix(confused: Results) -> None:
    """A row a label with examples, a column a class, one that is only predicted included; counts, changes and tints are right."""
    (view,) = confusions.views(confused)
    counts = [[(cell.pair.candidate, cell.pair.change, cell.level) for cell in row] for row in view.matrix]
    assert [cell.pair.prediction for cell in view.matrix[0]] == ["card", "loan", "other"]
    assert [row[0].pair.label for row in view.matrix] == ["card", "loan"]
    assert counts == [[(6, -3, 4), (4, 3, 4), (0, 0, 0)], [(0, -2, 0), (19, 1, 4), (1, 1, 2)]]
    assert [[cell.right for cell in row] for row in view.matrix] == [[True, False, False], [False, True, False]]
    assert view.sentence == (
        "5 wrong answers, 2 more than the baseline; grown most: card taken for loan, 4 instead of 1"
    )


def test_many_classes_are_a_list_of_what_grew(confused: Results, tmp_path: Path) -> None:
    """Of 80 classes the pairs are listed, those that grew most first, ten shown and at most fifty folded; names stay text."""
    many = tuple(recall(f"<i>{number}", 10, 9, 9) for number in range(80))
    pairs = tuple(Confusion("int8", f"<i>{number}", f"<i>{number + 1}", 1 + number) for number in range(70))
    results = dataclasses.replace(confused, class_recalls=many, confusions=pairs)
    (view,) = confusions.views(results)
    assert not view.matrix
    assert (len(view.shown), len(view.folded)) == (10, 50)
    assert (view.shown[0].label, view.shown[0].candidate, view.shown[0].change) == ("<i>69", 70, 70)
    write_results(results, tmp_path)
    page = render(tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "50 more pairs" in page
    assert "<i>" not in page


def test_sentences_of_better_equal_and_perfect_candidates(confused: Results) -> None:
    """Fewer, as many and no wrong answers are said so."""

    def sentence(*counted: Confusion) -> str:
        (view,) = confusions.views(dataclasses.replace(confused, confusions=counted))
        return view.sentence

    worse, same = Confusion("base", "card", "loan", 3), Confusion("int8", "card", "loan", 3)
    assert sentence() == "no wrong answer"
    assert sentence(worse, same) == "3 wrong answers, as many as the baseline"
    assert sentence(worse, dataclasses.replace(same, n=1)) == "1 wrong answer, 2 fewer than the baseline"


def test_a_run_of_many_classes_without_an_error_has_no_matrix(confused: Results) -> None:
    """Where nothing is wrong a run of many classes shows the sentence alone."""
    many = tuple(recall(str(number), 10, 10, 10) for number in range(80))
    (view,) = confusions.views(dataclasses.replace(confused, class_recalls=many, confusions=()))
    assert (view.matrix, view.shown, view.folded) == ((), (), ())


def test_the_rows_of_a_real_runs_matrix_add_up(classifier_run: Path) -> None:
    """In a run's own matrix the cells of a label sum to its examples, so that no answer is lost on the way."""
    results = read_results(classifier_run)
    support = {each.class_name: each.n for each in results.class_recalls}
    views = list(confusions.views(results))
    assert len(views) == 6
    for view in views:
        assert {row[0].pair.label: sum(cell.pair.candidate for cell in row) for row in view.matrix} == support
