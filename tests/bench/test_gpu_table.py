"""The script for a machine with a GPU: every row is a recipe that can be meant, and the table says what was not run."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from weighbridge.optimize.backends.base import Availability, DeviceTimes
from weighbridge.optimize.recipe import Recipe


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module."""
    return load_script("gpu_table")


def test_every_row_is_a_valid_recipe(script: ModuleType) -> None:
    """Backends, precisions and steps of the rows are ones that exist."""
    for row in script.ROWS.values():
        wanted = {key: value for key, value in row.items() if key != "provider"}
        assert Recipe.from_dict(wanted).to_dict()["backend"] == row["backend"]
    assert {row["backend"] for row in script.ROWS.values()} == {"torch", "onnxruntime", "tensorrt"}


def test_numbers_and_reasons_stand_in_one_table(script: ModuleType) -> None:
    """Host and device times stand side by side, copies apart, and a row that was not run has its reason."""
    times = {str(size): {"host_ms": size / 2, "device_ms": size / 4} for size in script.BATCHES}
    times["32"] |= {"copy_in_ms": 0.02, "copy_out_ms": 0.01}
    rows = {
        "torch-fp16": {"times": times, "agreement": 0.987},
        "ort-cuda-fp16": {"times": {key: {"host_ms": 1.5} for key in times}, "agreement": None},
        "tensorrt-fp16": {"reason": "tensorrt is not installed"},
    }
    lines = script.table(rows, "head").splitlines()
    assert lines[0] == "head"
    assert lines[2].count("|") == lines[3].count("|") == lines[6].count("|")
    assert lines[4] == "| torch-fp16 | 0.500 / 0.250 | 4.000 / 2.000 | 16.000 / 8.000 | 0.020 + 0.010 | 98.7% |"
    assert lines[5] == "| ort-cuda-fp16 | 1.500 | 1.500 | 1.500 | - | - |"
    assert lines[6].startswith("| tensorrt-fp16 | not run: tensorrt is not installed |")


def test_a_row_that_cannot_be_had_says_why(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is not usable here is a reason; a process that dies is one too."""
    missing = Availability(usable=False, reason="no CUDA device was found")
    monkeypatch.setattr("weighbridge.optimize.backends.tensorrt_backend.tensorrt_availability", lambda: missing)
    assert script.row(script.ROWS["tensorrt-fp16"], "nowhere") == {"reason": "no CUDA device was found"}
    assert script.in_child("no-such-row", "nowhere")["reason"].startswith("its process ended with status 1: KeyError")


def test_the_device_is_asked_where_it_has_a_clock(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's median is of the calls that were timed here; device and copies are what the opened variant tells."""

    class Opened:
        calls = 0

        def load(self, inputs: Any) -> Any:
            return inputs

        def infer(self, tensors: Any) -> None:
            assert tensors["input_ids"].shape == (8, script.LENGTH)
            self.calls += 1

        def device_times(self, tensors: Any, calls: int) -> DeviceTimes:
            assert tensors["input_ids"].shape == (8, script.LENGTH)
            assert calls == script.CALLS
            return DeviceTimes(9.0, 0.4, 0.02, 0.01)

    ticks = iter(range(0, 10**10, 2_000_000))
    monkeypatch.setattr(script.time, "perf_counter_ns", lambda: next(ticks))
    opened = Opened()
    found = script.timed(opened, script.batch(8))
    assert found == {"host_ms": 2.0, "device_ms": 0.4, "copy_in_ms": 0.02, "copy_out_ms": 0.01}
    assert opened.calls == script.WARM_CALLS + script.CALLS
