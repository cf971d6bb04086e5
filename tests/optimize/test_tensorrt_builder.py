"""Building a plan: what the builder is told, what it keeps, and what becomes of its refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from weighbridge.optimize.errors import BuildError, ConfigError, UnavailableError
from weighbridge.optimize.model import Examples, OnnxModel, Signature, TensorSpec
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import technique
from weighbridge.optimize.techniques.tensorrt_engine import ranges_of, timing_cache_of
from weighbridge.optimize.tensorrt_library import load_tensorrt, new_enough
from weighbridge.optimize.tensorrt_place import EngineFacts, place_here

PROBES = tuple({"features": np.zeros((count, 6), np.float32)} for count in (1, 2, 16))


def built(model: OnnxModel, folder: Path, told: Any = None, **options: Any) -> Any:
    """What the builder's step makes of a graph."""
    step = step_from_dict({"use": "tensorrt-engine", **options})
    folder.mkdir(exist_ok=True)
    return technique("tensorrt-engine").apply(model, step, Examples(PROBES), folder, told or (lambda _: None))


def test_limits_reach_the_builder(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """Level, workspace, sparsity and TF32 are what the step says; by default FP32 is not rounded and the workspace is free."""
    built(table_graph, tmp_path)
    options = {"workspace_mib": 64, "optimization_level": 5, "tf32": True, "sparse_weights": True}
    built(table_graph, tmp_path, **options)
    plain, told = gpu_machine.library.built
    assert (plain["flags"], plain["limits"], plain["level"]) == (set(), {}, 3)
    assert told["flags"] == {"TF32", "SPARSE_WEIGHTS"}
    assert (told["limits"], told["level"]) == ({"WORKSPACE": 64 * 1024 * 1024}, 5)


def test_measured_times_are_kept_for_the_next_build(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """The timing cache of this GPU, driver and TensorRT is read before a build and written after it; a damaged one is begun anew."""
    built(table_graph, tmp_path)
    file = timing_cache_of(place_here())
    assert file.read_bytes() == b"times;"
    built(table_graph, tmp_path)
    assert gpu_machine.library.built[1]["times"] == b"times;"
    file.write_bytes(b"damaged")
    built(table_graph, tmp_path)
    assert gpu_machine.library.built[2]["times"] == b""
    assert file.read_bytes() == b"times;"
    gpu_machine.nvml._driver = "590.10"
    assert timing_cache_of(place_here()) != file


def test_no_times_are_kept_where_none_are_wanted(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """With timing_cache = false nothing is read or written."""
    built(table_graph, tmp_path, timing_cache=False)
    assert gpu_machine.library.built[0]["times"] is None
    assert not timing_cache_of(place_here()).exists()


def test_progress_is_told(
    gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the builder's own threads report is passed on, with the phase and its steps, not more than once a second."""
    told: list[str] = []
    built(table_graph, tmp_path, told.append)
    assert told == []
    monkeypatch.setattr("weighbridge.optimize.tensorrt_builder._PROGRESS_SECONDS", 0.0)
    built(table_graph, tmp_path, told.append)
    assert told == [f"Building Engine, step {step} of 3" for step in (1, 2, 3)]
    assert len(gpu_machine.library.built) == 2


def test_a_build_that_takes_too_long_is_stopped(gpu_machine: Any, table_graph: OnnxModel, tmp_path: Path) -> None:
    """After its time limit the builder may not go on, and the text says which setting to change."""
    gpu_machine.library.slow = 0.02
    with pytest.raises(BuildError, match=r"not built within 0.001 s; raise time_limit_s of step tensorrt-engine"):
        built(table_graph, tmp_path, time_limit_s=0.001)
    assert not gpu_machine.library.built
    assert not (tmp_path / "model.plan").exists()


@pytest.mark.usefixtures("gpu_machine")
def test_refusals_carry_tensorrts_reason(
    table_graph: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that cannot be parsed and an engine that cannot be built say why, in one line."""
    monkeypatch.setattr("fake_tensorrt.UNKNOWN", {"Relu"})
    with pytest.raises(BuildError, match=r"cannot parse table.onnx: no importer for Relu \(node 7\)$"):
        built(table_graph, tmp_path)
    monkeypatch.setattr("fake_tensorrt.UNKNOWN", set())
    monkeypatch.setattr("weighbridge.optimize.techniques.tensorrt_engine.ranges_of", lambda *_: {})
    with pytest.raises(BuildError, match=r"TensorRT built no engine: no profile for \['features'\]$"):
        built(table_graph, tmp_path)


@pytest.mark.usefixtures("gpu_machine")
def test_a_graph_of_fixed_shapes_needs_no_profile(table_graph: OnnxModel, tmp_path: Path) -> None:
    """Inputs without a free dimension take no range, and the plan has none."""
    graph = onnx.load(str(table_graph.path))
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    path = tmp_path / "fixed.onnx"
    onnx.save(graph, str(path))
    built(replace(table_graph, path=path), tmp_path / "out")
    assert EngineFacts.read(tmp_path / "out").ranges == {}


def test_a_profile_spans_all_that_is_checked_and_measured() -> None:
    """Smallest and largest are taken over probes and measured batch sizes; it is tuned for the largest measured batch and length."""
    ids = TensorSpec("ids", "int64", ("batch", "sequence"))
    fixed = TensorSpec("scale", "float32", (1,))
    signature = Signature("classifier", (ids, fixed), ("logits",))
    probes = tuple({"ids": np.zeros(shape, np.int64)} for shape in ((1, 8), (16, 8), (2, 32)))
    examples = Examples(probes, batch_sizes=(4, 8))
    assert ranges_of(signature, examples, None) == {"ids": ((1, 8), (8, 32), (16, 32))}
    assert ranges_of(signature, examples, 2)["ids"][1] == (2, 32)
    assert ranges_of(signature, replace(examples, batch_sizes=(64,)), None) == {"ids": ((1, 8), (64, 32), (64, 32))}
    assert ranges_of(signature, replace(examples, batch_sizes=()), None)["ids"][1] == (16, 32)
    with pytest.raises(
        BuildError, match="opt_batch = 99 is outside the batch sizes 1 to 16 that are measured or checked"
    ):
        ranges_of(signature, examples, 99)
    of_two = Signature("classifier", (TensorSpec("ids", "int64", (2, "sequence")),), ("logits",))
    halves = Examples(tuple({"ids": np.zeros((2, length), np.int64)} for length in (8, 32)), batch_sizes=(64,))
    assert ranges_of(of_two, halves, None) == {"ids": ((2, 8), (2, 32), (2, 32))}


def test_settings_out_of_range_are_config_errors() -> None:
    """Levels are 0 to 5, and the time limit stays below that of the whole build."""
    for wrong in ({"optimization_level": 6}, {"workspace_mib": 0}, {"time_limit_s": 4000}, {"opt_batch": 0}):
        with pytest.raises(ConfigError, match=f"step 'tensorrt-engine': {next(iter(wrong))}"):
            step_from_dict({"use": "tensorrt-engine", **wrong})


def test_a_tensorrt_that_is_too_old_or_missing_is_unavailable(
    gpu_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks are strongly typed from 10.12 on as they are called here; what cannot be imported says so."""
    assert new_enough("10.12.0.36")
    assert new_enough("11.0.0.114")
    assert not new_enough("10.9.0.34")
    gpu_machine.library.module.__version__ = "9.3.0"
    with pytest.raises(UnavailableError, match="TensorRT 9.3.0 is too old; 10.12 or later"):
        load_tensorrt()
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match="tensorrt cannot be imported .*weighbridge doctor"):
        load_tensorrt()
