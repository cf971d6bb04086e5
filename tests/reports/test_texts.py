"""Generated texts side by side: where two answers part is marked, counted and said in words."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weighbridge.bench.results import GeneratedText, Results, read_results
from weighbridge.reports import render, texts

Make = Callable[..., Any]


def text(example: int, ours: str, theirs: str, place: int | None, margin: float | None = None) -> GeneratedText:
    near = margin is not None and margin < 1e-4
    return GeneratedText("int8", example, "prompt", "", theirs, ours, place, margin, near)


def test_texts_part_at_the_first_letter_that_differs(results_of: Make, candidate: Make) -> None:
    """What both begin with stands once, what follows apart; an answer that ends early has nothing more to say."""
    rows = (
        text(0, "the cat", "the dog", 1, 0.42),
        text(1, "the cat", "the", 1, 2.1e-5),
        text(2, "the cat", "the cat", None),
        text(3, "x", "y", 0),
    )
    found: Results = dataclasses.replace(results_of(candidate("int8")), texts=rows)
    (view,) = texts.views(found)
    assert (view.variant, view.sentence) == ("int8", "3 of the 4 answers shown differ, 1 of them at a near tie")
    assert [(each.common, each.baseline_rest, each.rest) for each in view.texts] == [
        ("the ", "dog", "cat"),
        ("the", "", " cat"),
        ("the cat", "", ""),
        ("", "y", "x"),
    ]
    assert [each.place for each in view.texts] == [
        "token 1, margin 0.42",
        "token 1, margin 2.1e-05: a near tie",
        "same tokens",
        "token 0",
    ]


def test_the_page_shows_texts_escaped_and_marked_without_colour(generator_run: Path, tmp_path: Path) -> None:
    """Prompts and answers are text, not markup; the parting is a sign, hidden words and an underline."""
    page = render(generator_run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Texts side by side" in page
    assert "<b>bold</b>" not in page
    assert (
        "the &lt;b&gt;bold&lt;/b&gt; answer 3 st"
        '<span class="parts">▸</span><span class="hidden">(differs from here) </span><ins>rays</ins>'
    ) in page
    assert "8 of the 20 answers shown differ, 1 of them at a near tie" in page
    assert "<script>alert" not in page


def test_texts_are_in_results_json_and_in_older_ones_not(generator_run: Path, classifier_run: Path) -> None:
    """Twenty texts a candidate are read back; a run of classifiers has none and no section of them."""
    found = read_results(generator_run).texts
    assert len(found) == 3 * 20
    assert {each.variant for each in found} == {"torch-bf16", "ort-fp32", "ort-int8"}
    assert read_results(classifier_run).texts == ()


def test_the_quality_table_says_n_of_every_metric(generator_run: Path) -> None:
    """Windows and prompts are counted apart: perplexity over 120 windows, texts over 24 prompts, and a ratio is a change too."""
    from weighbridge.reports.findings import Findings
    from weighbridge.reports.tables import quality_table

    table = quality_table(Findings(read_results(generator_run)))
    cells = {column.title: cell for column, cell in zip(table.columns, table.rows[-1].cells, strict=True)}
    assert cells["perplexity"].detail.endswith("n = 120")
    assert cells["perplexity"].detail.startswith("+0.")
    assert cells["token agreement"].detail == "n = 24"
    assert cells["exact match"].detail.endswith("n = 24")
