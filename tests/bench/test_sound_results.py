"""results.json of others: refused with the place where it is no run's, so that no report fails on it later."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.results import (
    Comparison,
    Control,
    Gate,
    Measurement,
    Results,
    VariantRow,
    read_results,
    write_results,
)
from weighbridge.optimize.errors import InputError

SHAPE = {"batch_size": 1}
PARITY = {"max_abs": 0.1, "max_relative": 0.1, "cosine": 0.99, "agreement": 1.0, "shapes": ["1"]}
RESULTS = Results(
    environment={"date": "2026-11-24T14:10:00+00:00", "commit": "abc", "memory_bytes": 1e9, "versions": {"numpy": "2"}},
    config={"workload": {"name": "w"}},
    variants=(
        VariantRow(
            "base", "torch", "fp32", "ok", baseline=True, audit={"ok": True, "nodes": {"Add": 1}}, parity=PARITY
        ),
        VariantRow("next", "torch", "int8", "ok", steps=({"step": {"use": "dynamic-int8"}, "status": "applied"},)),
    ),
    measurements=(Measurement("next", "latency_p50", "ms", SHAPE, 1.5),),
    comparisons=(Comparison("next", "latency_p50", SHAPE, "ratio", 0.5, 0.4, 0.6, 0.99, 4, (0.5, 0.5)),),
    control=(Control("latency_p50", SHAPE, 1.0, 0.99, 1.01),),
    gates=(Gate("latency_p50", "ratio", {"max": 0.6}, "next", SHAPE, "pass", "a sentence"),),
)


def test_sound_results_survive_their_file(tmp_path: Path) -> None:
    """What is written is read back as the same plain data."""
    write_results(RESULTS, tmp_path)
    assert json.dumps(read_results(tmp_path).to_dict()) == json.dumps(RESULTS.to_dict())


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("measurements", 0, "value", value="fast"), r"measurements\.0\.value: Input should be a valid number"),
        (put("measurements", 0, "value", value=1e300), r"latency_p50: 1e\+300 \[None, None\] is no quantity"),
        (
            put("measurements", 0, "metric", value="latency_mea"),
            "unknown metric 'latency_mea'; did you mean 'latency_mean'",
        ),
        (
            put("measurements", 0, "conditions", value={"batch": 1}),
            "unknown condition 'batch'; did you mean 'batch_size'",
        ),
        (put("comparisons", 0, "low", value=0), r"latency_p50: 0\.5 \[0\.0, 0\.6\] is no quantity"),
        (
            put("comparisons", 0, "kind", value="share"),
            r"comparisons\.0\.kind: Input should be 'ratio' or 'difference'",
        ),
        (put("control", 0, "value", value=-1), r"latency_p50: -1\.0 \[0\.99, 1\.01\] is no quantity"),
        (
            put("gates", 0, "limit", value={}),
            "the limit of a gate on latency_p50 must be one of max and min; given none",
        ),
        (put("gates", 0, "verdict", value="passed"), r"gates\.0\.verdict: Input should be 'pass'"),
        (put("variants", 0, "baseline", value=False), "0 variants are marked as baseline; it must be exactly one"),
        (put("variants", 1, "name", value="base"), "two variants are named base"),
        (
            put("variants", 0, "audit", "nodes", value=["Add"]),
            r"variants\.0\.audit\.nodes: Input should be a valid dictionary",
        ),
        (put("variants", 0, "parity", value={"cosine": 1}), r"variants\.0\.parity\.max_abs: Field required"),
        (
            put("variants", 1, "steps", 0, "step", value="use"),
            r"variants\.1\.steps\.0\.step: Input should be a valid dict",
        ),
        (
            put("environment", "memory_bytes", value="much"),
            r"environment\.memory_bytes: Input should be a valid number",
        ),
        (put("config", "workload", value=[]), r"config\.workload: Input should be a dictionary"),
        (put("notices", value="one"), "notices: Input should be a valid tuple"),
    ],
)
def test_what_is_no_run_s_results_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path
) -> None:
    """Wrong types, unknown metrics and shapes, impossible numbers and contradictions are told in a sentence."""
    data = json.loads(json.dumps(RESULTS.to_dict()))
    change(data)
    (tmp_path / "results.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=f"does not follow the results schema: {sentence}"):
        read_results(tmp_path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"schema_version": NaN}', "\xff"])
def test_what_is_no_json_says_how_to_have_it_again(text: str, tmp_path: Path) -> None:
    """A file that is cut, nested too deeply, or holds what JSON does not, is written again by `gate`."""
    (tmp_path / "results.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"cannot be read .* `weighbridge gate .*` writes it again from the raw files"):
        read_results(tmp_path)
