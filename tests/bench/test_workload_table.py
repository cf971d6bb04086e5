"""The script behind the table of built-in workloads: what a line says, which run is read again, which baseline is too poor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from weighbridge.bench.results import Comparison, Measurement, Results, VariantRow, write_results
from weighbridge.bench.running import Options

SHAPE = {"batch_size": 1, "threads": 1}
ENVIRONMENT = {
    "date": "2026-11-26T10:00:00+00:00",
    "machine": "a processor x2",
    "versions": {"torch": "2.13.0", "onnxruntime": "1.31.1", "numpy": "2"},
}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module."""
    return load_script("workload_table")


def results(accuracy: float = 0.98) -> Results:
    """A baseline of 2 ms and 1.5 MB; a candidate at 0.4 of it, half a point worse; one that is unavailable."""

    def measured(metric: str, unit: str, value: float, conditions: dict[str, int]) -> Measurement:
        return Measurement("torch-fp32", metric, unit, conditions, value)

    return Results(
        environment=ENVIRONMENT,
        config={"workload": {"name": "w"}, "measure": {"max_seconds": 8.0}},
        variants=(
            VariantRow("ort-int8", "onnxruntime", "int8", "ok", note="no | gain", bytes=400_000),
            VariantRow("torch-fp32", "torch", "fp32", "ok", baseline=True, bytes=1_500_000),
            VariantRow("trt", "tensorrt", "fp16", "unavailable", reason="no driver"),
        ),
        measurements=(
            measured("latency_p50", "ms", 2.0, SHAPE),
            measured("accuracy", "1", accuracy, {}),
        ),
        comparisons=(
            Comparison("ort-int8", "latency_p50", SHAPE, "ratio", 0.4, 0.38, 0.42, 0.99, 4),
            Comparison("ort-int8", "accuracy", {}, "difference", -0.005, -0.02, 0.01, 0.99, 600),
        ),
    )


def test_a_line_says_size_speed_quality_and_remarks(script: ModuleType) -> None:
    """The baseline comes first with its own values, then each candidate's ratio and change with intervals, or why it is not there."""
    assert list(script.rows("w", results())) == [
        "| w | torch-fp32 | 1.50 MB | 2.00 ms | accuracy 98.0 % | baseline |",
        "| w | ort-int8 | 0.400 MB | 0.40 [0.38, 0.42] | -0.5 points [-2.0, +1.0] | no \\| gain |",
        "| w | trt |  |  |  | unavailable: no driver |",
    ]


def test_the_caption_says_command_days_machine_versions_and_confidence(script: ModuleType) -> None:
    """Both the first and the last day are named where there are two."""
    later = replace(results(), environment={**ENVIRONMENT, "date": "2026-11-27T01:00:00+00:00"})
    text = script.caption([results(), later])
    assert (
        "`python bench/scripts/workload_table.py --max-seconds 8 --write` on 2026-11-26 and 2026-11-27, a processor x2, one thread"
        in text
    )
    assert text.endswith("torch 2.13.0, onnxruntime 1.31.1. Intervals hold at 99.0 % each.")


def test_only_what_stands_between_the_marks_is_replaced(script: ModuleType) -> None:
    """The rest of the page stays as it is; a page without the marks is refused."""
    page = f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n"
    assert script.between_marks(page, "new") == f"before\n{script.BEGIN}\nnew\n{script.END}\nafter\n"
    with pytest.raises(SystemExit, match="the page lacks"):
        script.between_marks("before", "new")


def test_a_finished_run_is_read_and_an_interrupted_one_made_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without results is thrown away and run anew; with them it is not run again."""
    asked: list[Any] = []

    def fake_run(config: Any, options: Options, reporter: Any) -> None:
        del reporter
        asked.append((config.workload.builtin, options.max_seconds))
        folder = options.out or Path()
        folder.mkdir()
        write_results(results(), folder)

    monkeypatch.setattr(script, "run", fake_run)
    (tmp_path / "row-lstm.partial").mkdir()
    (tmp_path / "row-lstm.partial" / "journal.jsonl").write_text("half", encoding="utf-8")
    for _ in range(2):
        assert script.weighed("row-lstm", tmp_path, 5.0).variants == results().variants
    assert asked == [("row-lstm", 5.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["row-lstm"]


def test_a_baseline_must_be_above_its_floor(script: ModuleType) -> None:
    """At the floor is not above it; a workload without a floor is held to nothing."""
    assert script.below_floor("digits-cnn", results()) == ""
    assert script.below_floor("digits-cnn", results(0.95)) == "digits-cnn: accuracy 0.950 is not above its floor 0.95"
    assert script.below_floor("gpt2-text", results(0.1)) == ""
