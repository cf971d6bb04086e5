"""TensorRT on a machine of paper: built from ONNX, proven by the engine's own layers, opened, and refused where it must be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from weighbridge.optimize import tensorrt_availability
from weighbridge.optimize.adoption import adopt
from weighbridge.optimize.backends.base import OnDevice, OpenOptions
from weighbridge.optimize.backends.tensorrt_backend import BACKEND
from weighbridge.optimize.build import cache_key, optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import (
    BuildError,
    ConfigError,
    InputError,
    NotAvailableYetError,
    UnavailableError,
)
from weighbridge.optimize.loading import describe
from weighbridge.optimize.model import Examples, OnnxModel, PlanModel
from weighbridge.optimize.onnx_files import weights_of
from weighbridge.optimize.parity import open_model
from weighbridge.optimize.recipe import Recipe, step_from_dict
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import technique
from weighbridge.optimize.variant import Variant


def built(source: Source, examples: Examples, precision: str = "fp32", steps: Any = ()) -> Variant:
    """A variant of a tiny model, built on the paper machine into the user's cache."""
    recipe = Recipe.from_dict({"backend": "tensorrt", "precision": precision, "steps": steps})
    return optimize(source, recipe, examples=examples, cache=ArtifactCache())


@pytest.fixture(scope="module")
def table(table_graph: OnnxModel) -> Source:
    """The table classifier as a source."""
    return describe("onnx", str(table_graph.path), "tabular-classification")


def applied(model: Any, name: str, folder: Path, calibration: Any = (), **options: Any) -> Any:
    """What a technique makes of a model."""
    place = folder / name
    place.mkdir(exist_ok=True)
    step, using = step_from_dict({"use": name, **options}), technique(name)
    heard = (lambda _: None,) if using.tells else ()
    return using.apply(model, step, Examples(calibration, calibration), place, *heard).model


@pytest.fixture
def examples(probes: Any) -> Examples:
    """The probes of the table classifier, also as calibration data."""
    return Examples(probes=probes["mlp"], calibration=probes["mlp"], calibration_sha256="0" * 64, batch_sizes=(1, 32))


@pytest.mark.parametrize("gpu_machine", ["10.12.0.36", "11.4.0.106"], indirect=True)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_is_built_and_proven_by_its_layers(
    gpu_machine: Any, table: Source, examples: Examples, precision: str
) -> None:
    """FP32, FP16 and INT8 come from the ONNX graph's types, answer as the model does, and the audit counts layers of them."""
    manifest = built(table, examples, precision).manifest
    assert manifest.files == ("model.plan", "engine.json")
    assert manifest.audit.ok
    assert manifest.audit.nodes[f"computing in {precision}"] >= 2
    assert manifest.parameters == 6 * 16 + 16 + 16 * 4 + 4
    version = gpu_machine.library.version
    place = f"Paper GPU 0 (compute capability 9.0), driver 580.65.06, TensorRT {version}"
    assert manifest.audit.providers == (place,)
    assert manifest.parity is not None
    assert manifest.parity.agreement > 0.5
    steps = [record.step["use"] for record in manifest.steps]
    assert steps[-1] == "tensorrt-engine"
    assert manifest.steps[-1].details["profile"] == {"features": [[1, 6], [32, 6], [32, 6]]}


@pytest.mark.usefixtures("gpu_machine")
def test_a_torch_module_goes_by_onnx_to_its_plan(sources: Any, examples: Examples) -> None:
    """From a torch model the steps are export, quantization, the builder; the plan answers as the module does."""
    manifest = built(sources["mlp"], examples, "int8").manifest
    assert [record.step["use"] for record in manifest.steps] == ["export", "static-int8", "tensorrt-engine"]
    assert manifest.steps[1].step["target"] == "tensorrt"
    assert manifest.audit.nodes["computing in int8"] == 2


@pytest.mark.usefixtures("gpu_machine")
def test_answers_of_an_opened_plan_are_those_of_the_model(
    table: Source, examples: Examples, table_graph: OnnxModel
) -> None:
    """What comes back from the device is what ONNX Runtime answers, at every batch size of the profile; the host may be asked again."""
    opened = built(table, examples).open()
    assert isinstance(opened, OnDevice)
    expected = open_model(table_graph)
    for rows in (1, 7, 32):
        batch = {"features": np.random.default_rng(rows).standard_normal((rows, 6)).astype(np.float32)}
        found = opened.arrays(opened.infer(opened.load(batch)))
        wanted = expected.arrays(expected.infer(expected.load(batch)))
        assert set(found) == set(wanted)
        for name in found:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)
    opened.close()


@pytest.mark.usefixtures("gpu_machine")
def test_a_plan_of_other_types_than_its_name_is_failed(
    table: Source, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose layers are FP32 although FP16 was asked for is no FP16 variant, and nothing is cached."""
    monkeypatch.setattr("fake_tensorrt._WORDS", dict.fromkeys(("FLOAT", "HALF", "INT8"), "Float"))
    with pytest.raises(BuildError, match=r"asked for fp16, but the engine's computing layers are \d+ in fp32"):
        built(table, examples, "fp16")
    with pytest.raises(BuildError, match=r"asked for int8, but the engine's computing layers are \d+ in fp32"):
        built(table, examples, "int8")


def test_a_plan_from_elsewhere_is_refused_and_built_anew(gpu_machine: Any, table: Source, examples: Examples) -> None:
    """After an update of the driver the old plan is not opened, the text says both places, and the cache does not offer it."""
    before = built(table, examples)
    recipe = Recipe.from_dict({"backend": "tensorrt", "precision": "fp32"})
    keys = {cache_key(table, recipe, examples)}
    gpu_machine.nvml._driver = "590.10"
    keys.add(cache_key(table, recipe, examples))
    assert len(keys) == 2
    with pytest.raises(
        UnavailableError,
        match=r"made on Paper GPU 0 .*driver 580.65.06.* but here is .*driver 590.10.* Build it here again",
    ):
        before.open()
    assert built(table, examples).folder != before.folder


@pytest.mark.usefixtures("gpu_machine")
def test_a_plan_is_keyed_by_the_shapes_that_it_is_made_for(table: Source, examples: Examples, probes: Any) -> None:
    """Other batch sizes make another plan."""
    recipe = Recipe.from_dict({"backend": "tensorrt", "precision": "fp32"})
    fewer = Examples(probes=probes["mlp"], batch_sizes=(1,))
    assert cache_key(table, recipe, examples) != cache_key(table, recipe, fewer)


@pytest.mark.usefixtures("gpu_machine")
def test_no_step_follows_the_builder(table: Source, examples: Examples) -> None:
    """A finished plan cannot be changed: a step after the builder's is a config error, and so is the builder for another backend."""
    steps = [{"use": "tensorrt-engine"}, {"use": "onnx-half-precision"}]
    with pytest.raises(ConfigError, match="'onnx-half-precision' cannot change a finished plan; put it before"):
        built(table, examples, "fp16", steps)
    recipe = Recipe.from_dict({"backend": "onnxruntime", "precision": "fp32", "steps": [{"use": "tensorrt-engine"}]})
    with pytest.raises(ConfigError, match="only backend tensorrt can run, not onnxruntime"):
        optimize(table, recipe, examples=examples, cache=ArtifactCache())


@pytest.mark.usefixtures("gpu_machine")
def test_what_is_not_built_is_said(probes: Any, tmp_path: Path, table_graph: OnnxModel) -> None:
    """Generators and existing plans are not available yet, other precisions do not exist, other forms are refused."""
    decoder = replace(table_graph, signature=replace(table_graph.signature, kind="decoder"))
    with pytest.raises(NotAvailableYetError, match="generators on TensorRT are not available yet"):
        BACKEND.default_steps("fp16", "decoder")
    with pytest.raises(NotAvailableYetError, match="generators on TensorRT are not available yet"):
        applied(decoder, "tensorrt-engine", tmp_path)
    with pytest.raises(BuildError, match="tensorrt-engine builds from ONNX graphs only"):
        applied(PlanModel(tmp_path, table_graph.signature), "tensorrt-engine", tmp_path)
    with pytest.raises(ConfigError, match="the tensorrt backend builds no bf16. Allowed: fp32, fp16, int8"):
        BACKEND.default_steps("bf16", "classifier")
    with pytest.raises(BuildError, match="keeps TensorRT plans only"):
        BACKEND.build(table_graph, tmp_path)
    with pytest.raises(
        NotAvailableYetError, match=r"an existing tensorrt plan as an artifact is not available yet.*give the .onnx"
    ):
        adopt(tmp_path / "model.plan", "tensorrt", None, examples=Examples(probes=probes["mlp"]))


@pytest.mark.usefixtures("gpu_machine")
def test_damaged_plans_are_refused(table: Source, examples: Examples, tmp_path: Path) -> None:
    """Bytes that are no plan, and a plan that does not say where it was made, are refused with the reason."""
    variant = built(table, examples).copy_to(tmp_path / "copy")
    with pytest.raises(ConfigError, match="the tensorrt backend has no provider 'cpu'. Allowed: cuda"):
        variant.open(OpenOptions(provider="cpu"))
    (variant.folder / "model.plan").write_bytes(b"no plan")
    with pytest.raises(BuildError, match=r"TensorRT refuses the plan model.plan: .*magic tag does not match"):
        variant.open()
    (variant.folder / "model.plan").unlink()
    with pytest.raises(InputError, match=r"model.plan cannot be read"):
        variant.open()
    (variant.folder / "engine.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="engine.json does not say where the plan was made"):
        variant.open()


@pytest.mark.usefixtures("gpu_machine")
def test_the_int8_row_says_what_stays_in_fp32() -> None:
    """An INT8 row says what becomes of the layers that are not quantized; the others have nothing to add."""
    assert "in FP32" in BACKEND.note("int8", ())
    assert BACKEND.note("fp16", ()) == ""


def test_the_graphs_for_tensorrt_are_made_on_any_machine(table_graph: OnnxModel, probes: Any, tmp_path: Path) -> None:
    """The INT8 file has zero points of 0, a scale a channel, biases in float; the FP16 file has FP16 tensors, FP32 in and out."""
    int8: OnnxModel = applied(table_graph, "static-int8", tmp_path, probes["mlp"], target="tensorrt")
    arrays = dict(weights_of(onnx.load(str(int8.path))))
    zero_points = {name: array for name, array in arrays.items() if name.endswith("_zero_point")}
    assert zero_points
    assert not any(array.any() for array in zero_points.values())
    assert all(array.dtype == np.int8 for array in zero_points.values())
    weights = {name for name, array in arrays.items() if name.endswith("_quantized") and array.ndim == 2}
    assert len(weights) == 2
    for name in weights:
        assert arrays[name].dtype == np.int8
        assert arrays[name.replace("_quantized", "_scale")].size in arrays[name].shape
    assert not [name for name, array in arrays.items() if array.dtype == np.int32]
    half: OnnxModel = applied(table_graph, "onnx-half-precision", tmp_path)
    graph = onnx.load(str(half.path))
    assert {array.dtype.name for _, array in weights_of(graph) if array.ndim == 2} == {"float16"}
    types = {value.type.tensor_type.elem_type for value in (*graph.graph.input, *graph.graph.output)}
    assert types == {onnx.TensorProto.FLOAT}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_real_gpu_builds_and_answers(
    table: Source, examples: Examples, precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a machine with TensorRT and a GPU each precision is built, proven, opened and timed."""
    found = tensorrt_availability.tensorrt_availability()
    if not found.usable:
        pytest.skip(found.reason)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    variant = built(table, examples, precision)
    assert (
        json.loads((variant.folder / "engine.json").read_text(encoding="utf-8"))["place"]["tensorrt"] == found.version
    )
    opened = variant.open()
    times = opened.device_times(opened.load(examples.probes[0]), 10)
    assert 0 < times.device_ms <= times.host_ms
    opened.close()
