"""What is said of the intervals in the comparison tables."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.results import Comparison, write_results
from weighbridge.reports import render
from weighbridge.reports.tables import confidence

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("confidences", "text"),
    [
        ((), ""),
        ((0.98,), "98 %"),
        ((0.995, 1 - 0.01 / 2 - 0.01 / 4), "99.25 %"),
        ((0.999956,), "99.99 %"),
        ((1 - 1e-12,), "99.99 %"),
    ],
)
def test_the_least_confidence_is_told_and_never_rounded_up(confidences: tuple[float, ...], text: str) -> None:
    """Of several the least counts, and one just below 100 % is not called 100 %."""
    found = [Comparison("x", "latency_p50", {}, "ratio", 1.0, 0.9, 1.1, each, 4) for each in confidences]
    assert confidence(found) == text


def test_the_page_says_what_each_kind_of_bracket_is(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Costs of processes have no 95 % interval; changes of speed and of quality have each their own confidence, or no word of it."""
    results = results_of(candidate("x"))
    lower = tuple(replace(each, confidence=0.95) if each.metric == "accuracy" else each for each in results.comparisons)
    write_results(replace(results, comparisons=lower), tmp_path)
    page = render(tmp_path).read_text(encoding="utf-8")
    assert "of load time, first call and peak memory they are the least and the greatest of all processes." in page
    assert (
        "Those of speed against the baseline rest on replicates, fresh sets of processes, and hold with 99 % confidence"
    ) in page
    assert "Those of changes of quality rest on the same examples and hold with 95 % confidence or more." in page
    write_results(replace(results, comparisons=()), tmp_path)
    assert "confidence or more" not in render(tmp_path).read_text(encoding="utf-8")
