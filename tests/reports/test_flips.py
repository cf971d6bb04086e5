"""Changed answers in words."""

import dataclasses
from collections.abc import Callable
from typing import Any

from weighbridge.bench.results import Flip, Measurement, Results
from weighbridge.reports import flips
from weighbridge.reports.findings import Findings

Make = Callable[..., Any]


def test_each_change_is_told_by_its_effect(results_of: Make, candidate: Make) -> None:
    """Newly right, newly wrong, wrong otherwise, and changed where there is no label; the sentence counts them."""
    rows = (
        Flip("int8", 1, "a", "b", "a"),
        Flip("int8", 2, "a", "a", "b"),
        Flip("int8", 3, "a", "b", "c"),
        Flip("int8", 4, "", "b", "c"),
        Flip("int8", 5, "a", "a", "c"),
    )
    found: Results = dataclasses.replace(results_of(candidate("int8")), flips=rows)
    (view,) = flips.views(Findings(found))
    assert [how for _, how in view.flips] == ["newly right", "newly wrong", "wrong otherwise", "changed", "newly wrong"]
    assert view.sentence == "5 changed answers: 1 newly right, 2 newly wrong, 1 wrong otherwise, 1 changed"


def test_what_is_left_out_is_counted_by_the_agreement(results_of: Make, candidate: Make) -> None:
    """With an agreement of 0.97 on 1,000 examples 30 answers changed, of which two are kept; a long text is cut."""
    found: Results = results_of(candidate("int8"))
    agreement = Measurement("int8", "agreement", "1", {}, 0.97, n=1000)
    rows = (Flip("int8", 1, "a", "b", "a", "word " * 100), Flip("int8", 2, "a", "b", "a", "short"))
    found = dataclasses.replace(found, flips=rows, measurements=(*found.measurements, agreement))
    (view,) = flips.views(Findings(found))
    assert view.sentence == "the first 2 of 30 changed answers: 2 newly right"
    assert [len(flip.text) for flip, _ in view.flips] == [201, 5]
    assert view.flips[0][0].text.endswith("word …")
