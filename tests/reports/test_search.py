"""What the page tells of a search."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from weighbridge.bench.results import Results, read_results, write_results
from weighbridge.bench.search_findings import Bounded, FrontRow, LedgerRow, Search, Sensitivity, TrialRow
from weighbridge.reports import render
from weighbridge.reports.search import tables_of

HOSTILE = "<img src=x onerror=alert(1)>"
NONE = Bounded(0.0, -0.01, 0.01)


def search_of(layer: str = "encoder.0") -> Search:
    """A small search: two layers of which one could be tried, one step, two members of the front."""
    gain = Bounded(0.0123, 0.004, 0.02)
    return Search(
        searched="int8",
        chosen="int8-keep-1",
        met=True,
        max_drop=0.01,
        max_seconds=600.0,
        seconds=42.0,
        choosing=1000,
        judging=1000,
        control=Bounded(1.001, 0.992, 1.01),
        sentences=("int8-keep-1 keeps the budget.",),
        sensitivity=(
            Sensitivity("head", 2, reason="it was not built"),
            Sensitivity(layer, 3, accuracy=gain, kl=gain, cost=Bounded(0.5, 0.4, 0.6)),
        ),
        ledger=(LedgerRow(1, layer, 4, "left in float", "", NONE, gain, Bounded(2.5, 2.4, 2.6), NONE, 0.001),),
        front=(
            FrontRow(4, "int8-keep-1", (layer,), Bounded(2.5, 2.4, 2.6), NONE, 1000),
            FrontRow(1, "", (), Bounded(4.0, 3.9, 4.1), NONE, 1000),
        ),
        trials=(TrialRow(1, "float", (), 1000, 2.0), TrialRow(4, "rollback", (layer,), 1000, 2.0)),
    )


def test_the_tables_of_a_search() -> None:
    """Layers come with the most sensitive first, one that could not be tried with its reason last; values have their units."""
    sensitivity, ledger, front = tables_of(search_of())
    assert [row[0].text for row in sensitivity.rows] == ["encoder.0", "head"]
    assert [cell.text for cell in sensitivity.rows[0]] == ["encoder.0", "+12.30", "+1.23", "0.500"]
    assert sensitivity.rows[0][3].detail == "[0.400, 0.600]"
    assert [cell.text for cell in sensitivity.rows[1]] == ["head", "", "", ""]
    assert sensitivity.rows[1][0].detail == "it was not built"
    assert "took 1.001 [0.992, 1.010] of each other's time" in sensitivity.note
    assert [cell.text for cell in ledger.rows[0]] == ["1", "encoder.0", "left in float", "0", "+1.23", "2.50", "+0.00"]
    assert [[cell.text for cell in row[:2]] for row in front.rows] == [
        ["encoder.0", "int8-keep-1"],
        ["the float model", ""],
    ]
    assert all(len(row) == len(table.columns) for table in (sensitivity, ledger, front) for row in table.rows)


def test_a_generators_tables_tell_perplexity_in_percent_with_ordered_ends() -> None:
    """A gain of 0.0123 nats a token [0.004, 0.02] is 1.22 % less perplexity [-1.98, -0.40]; a request is timed, windows counted."""
    sensitivity, ledger, front = tables_of(replace(search_of(), metric="perplexity"))
    assert (sensitivity.rows[0][2].text, sensitivity.rows[0][2].detail) == ("-1.22", "[-1.98, -0.40]")
    assert sensitivity.columns[2].title == "Perplexity change"
    assert "1,000 choosing windows of text" in ledger.note
    assert {column.unit for column in (ledger.columns[4], ledger.columns[6], front.columns[3])} == {"%"}
    assert (front.columns[2].help, front.columns[4].help) == ("of a whole request", "windows of text")


def test_a_search_that_returned_nothing_has_no_ledger() -> None:
    """A table without rows is left out; many layers are told by the first three."""
    search = replace(search_of(), ledger=())
    assert [table.title for table in tables_of(search)] == ["Sensitivity", "Front"]
    row = replace(search.front[0], kept=("a", "b", "c", "d", "e"))
    whole = replace(search.front[0], kept=(), trial=0)
    front = tables_of(replace(search, front=(row, whole)))[-1]
    assert [each[0].text for each in front.rows] == ["a, b, c and 2 more", "none"]


def test_the_page_has_the_section_only_where_something_was_searched(
    results_of: Callable[..., Results], tmp_path: Path
) -> None:
    """A searched run has the section and its link, with names escaped, and the command that made it; another run has none."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_results(results_of(), folder)
    plain = render(folder, tmp_path / "plain.html").read_text(encoding="utf-8")
    write_results(replace(read_results(folder), search=search_of(HOSTILE)), folder)
    page = render(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Sensitivity and ledger" not in plain
    assert page.count("Sensitivity and ledger") == 2
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "weighbridge search CONFIG --max-drop 0.01" in page
