"""Confusions: a matrix of few classes, a list of many, each beside the baseline's."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.confusions import confusions as confusions_of
from weighbridge.bench.predictions import ClassPredictions
from weighbridge.bench.quality_measurements import class_recalls
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

    def sentence(baseline: int, candidate: int) -> str:
        wrong = {"base": baseline, "int8": candidate}
        counted = tuple(Confusion(name, "card", "loan", n) for name, n in wrong.items() if n)
        recalls = (recall("card", 10, 10 - baseline, 10 - candidate),)
        (view,) = confusions.views(dataclasses.replace(confused, class_recalls=recalls, confusions=counted))
        return view.sentence

    assert sentence(0, 0) == "no wrong answer"
    assert sentence(3, 3) == "3 wrong answers, as many as the baseline"
    assert sentence(3, 1) == "1 wrong answer, 2 fewer than the baseline"
    assert sentence(3, 0) == "0 wrong answers, 3 fewer than the baseline"


def test_wrong_answers_beyond_the_kept_pairs_are_counted(results_of: Make, candidate: Make) -> None:
    """Of 30 classes with an example for each of their 870 pairs, all wrong, only 200 pairs are kept; the sentence counts 870.

    The baseline has those right whose other class comes later, 435 of them, so that the candidate has 435 more.
    """
    labels, others = np.array(list(itertools.permutations(range(30), 2))).T
    scores, texts = np.zeros((870, 30), np.float32), ("",) * 870
    answers = {
        "base": ClassPredictions(labels, np.where(others > labels, labels, others), scores, texts),
        "int8": ClassPredictions(labels, others, scores, texts),
    }
    kept = tuple(confusions_of(answers))
    assert sum(each.n for each in kept if each.variant == "int8") == 200
    results = dataclasses.replace(
        results_of(candidate("int8")), class_recalls=tuple(class_recalls(answers, "base")), confusions=kept
    )
    (view,) = confusions.views(results)
    assert view.sentence == "870 wrong answers, 435 more than the baseline"


def test_a_candidate_none_of_whose_pairs_is_kept_is_counted(confused: Results) -> None:
    """Where other candidates' pairs took the room, wrong answers are told without the pair that grew most."""
    (view,) = confusions.views(dataclasses.replace(confused, confusions=()))
    assert view.sentence == "5 wrong answers, 2 more than the baseline"


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
