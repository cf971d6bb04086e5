"""The tables on the terminal: what they show and what they leave to the report."""

import io

from rich.console import Console
from weighbridge.bench.cli.tables import print_results
from weighbridge.bench.results import Comparison, Results, VariantRow


def test_parts_of_a_request_have_no_table() -> None:
    """TPOT of whole requests is printed once a shape; TPOT by length of the past is left to the report's chart."""
    shape = {"batch_size": 1, "prompt_length": 8, "max_new_tokens": 9}
    rows = (VariantRow("base", "torch", "fp32", "ok", baseline=True), VariantRow("next", "torch", "int8", "ok"))
    whole = Comparison("next", "tpot", shape, "ratio", 0.5, 0.4, 0.6, 0.99, 4)
    part = Comparison("next", "tpot", {**shape, "past_length": 12}, "ratio", 0.7, 0.6, 0.8, 0.99, 4)
    results = Results({}, {"workload": {"name": "w"}}, rows, comparisons=(whole, part))
    console = Console(file=io.StringIO(), width=100)
    print_results(results, console)
    printed = console.file.getvalue()
    assert "0.500 [0.400, 0.600]" in printed
    assert "past_length" not in printed
    assert "0.700" not in printed
