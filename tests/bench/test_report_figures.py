"""The script that measures rendering: it renders what it says it renders."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from weighbridge.bench.results import write_results
from weighbridge.bench.schema import validate


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script, loaded."""
    return load_script("report_figures")


def test_each_of_200_variants_has_20_measurements(script: ModuleType) -> None:
    """The run is as large as the script says and valid by the published schema; each candidate is compared and judged."""
    results = script.results_of(200)
    assert set(Counter(each.variant for each in results.measurements).values()) == {20}
    assert len({each.variant for each in results.measurements}) == 200
    assert len(results.comparisons) == len(results.gates) == 3 * 199
    validate(json.loads(json.dumps(script.results_of(3).to_dict())))


def test_a_fresh_process_renders_it(script: ModuleType, tmp_path: Path) -> None:
    """The figures are of the page that now lies in the folder, charts included, and the page holds every variant."""
    write_results(script.results_of(3), tmp_path)
    found = script.rendered(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert found["bytes"] == len(page.encode())
    assert "candidate-002" in page
    assert 'class="chart"' in page
    assert found["wall"] > 0
    assert min(found["peak"], found["drawing"]) > 10_000_000
