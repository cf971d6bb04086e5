"""INT8 by NNCF: what is replaced, that answers stay near in both runtimes, and what is refused."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.openvino_backend import BACKEND
from weighbridge.optimize.build import optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, ConfigError, UnavailableError
from weighbridge.optimize.model import Batch, Examples, OnnxModel, Signature, TensorSpec
from weighbridge.optimize.onnx_files import weights_of
from weighbridge.optimize.parity import LOSSY_AGREEMENT
from weighbridge.optimize.recipe import Recipe, step_from_dict
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import StepResult, nncf_int8, technique

Get = Callable[[str], Any]
needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None or importlib.util.find_spec("openvino") is None,
    reason="nncf or openvino is not installed: pip install 'weighbridge[openvino]'",
)


def token_batches(lengths: tuple[int, ...]) -> tuple[Batch, ...]:
    """Four padded rows of tokens at each length."""
    random = np.random.default_rng(5)
    batches = []
    for length in lengths:
        ids = random.integers(1, 100, (4, length))
        mask = np.ones_like(ids)
        mask[0, length // 2 :] = 0
        batches.append({"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return tuple(batches)


CALIBRATION = token_batches((8, 16, 24, 32))


@pytest.fixture(scope="module")
def quantized_bert(onnx_model: Get, tmp_path_factory: pytest.TempPathFactory) -> StepResult:
    """The tiny BERT after the default step, quantized once."""
    step = step_from_dict({"use": "nncf-int8"})
    return technique("nncf-int8").apply(
        onnx_model("bert"), step, Examples((), CALIBRATION), tmp_path_factory.mktemp("bert")
    )


def opened(model: OnnxModel, folder: Path) -> Any:
    return BACKEND.open(folder, BACKEND.build(model, folder), model.signature, OpenOptions())


@needs_nncf
def test_a_transformers_products_are_replaced(quantized_bert: StepResult) -> None:
    """Every product with a weight is fed in 8 bits, and none of the two of each attention layer; attention is seen."""
    assert quantized_bert.details["nodes_replaced"] == {"Gemm": 2, "MatMul": 12}
    assert quantized_bert.details["transformer"] is True
    assert quantized_bert.details["samples"] == 16


@needs_nncf
def test_answers_stay_near_in_both_runtimes(
    onnx_model: Get, quantized_bert: StepResult, run_model: Any, probes: Any, tmp_path: Path
) -> None:
    """On padded batches of several shapes both runtimes move the scores by under two fifths of the largest, and by about the same."""
    predictor = opened(quantized_bert.model, tmp_path)
    for probe in probes["bert"]:
        expected = run_model(onnx_model("bert"), probe)
        checked = run_model(quantized_bert.model, probe)
        found = next(iter(predictor.arrays(predictor.infer(predictor.load(probe))).values()))
        largest = np.abs(expected).max()
        assert np.abs(checked - expected).max() < 0.4 * largest
        assert np.abs(found - expected).max() < 0.4 * largest


@needs_nncf
def test_an_int8_artifact_passes_its_audit_and_only_as_int8(quantized_bert: StepResult, tmp_path: Path) -> None:
    """Its weights lie in 8 bits, its layers multiply 8 bits, its parameters are still counted; as FP32 it is refused."""
    files = BACKEND.build(quantized_bert.model, tmp_path)
    audit = BACKEND.audit(tmp_path, files, "int8")
    assert (audit.ok, audit.reason) == (True, "")
    assert audit.weight_bytes["i8"] > 2 * audit.weight_bytes["f32"]
    assert sum(count for name, count in audit.nodes.items() if name.endswith((" in i8", " in u8"))) >= 14
    learnt = sum(np.prod(each.dims) for each in floats_of(quantized_bert))
    assert audit.parameters == pytest.approx(learnt, rel=0.05)
    assert "layers ran in 8 bits" in BACKEND.audit(tmp_path, files, "fp32").reason


def floats_of(result: StepResult) -> list[Any]:
    """The weights of the graph before quantization, counted by their shapes after it."""
    graph = onnx.load(str(result.model.path))
    kinds = (TensorProto.FLOAT, TensorProto.INT8)
    names = ("scale", "zero_point")
    return [each for each in graph.graph.initializer if each.data_type in kinds and not each.name.startswith(names)]


@needs_nncf
def test_a_whole_build_calibrates_and_opens(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """From an ONNX file, int8 alone is NNCF's step: recorded, audited, over the parity floor, and opened from its folder."""
    examples = Examples(probes["bert"], CALIBRATION, calibration_sha256="c" * 64)
    cache = ArtifactCache(tmp_path / "artifacts")
    variant = optimize(str(onnx_model("bert").path), "openvino-int8", examples=examples, cache=cache)
    manifest = variant.manifest
    assert [step.step["use"] for step in manifest.steps] == ["nncf-int8"]
    assert manifest.calibration_sha256 == "c" * 64
    assert manifest.audit.ok
    assert manifest.parity is not None
    assert manifest.parity.agreement > LOSSY_AGREEMENT
    predictor: Any = variant.open()
    assert predictor.arrays(predictor.infer(predictor.load(probes["bert"][0])))["logits"].shape == (1, 3)


@needs_nncf
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_steps_follow_the_export_of_a_module(
    sources: dict[str, Source], probes: Any, tmp_path: Path, precision: str
) -> None:
    """From a torch module, the step works on its ONNX export and the artifact is OpenVINO's own files."""
    examples = Examples(probes["mlp"], probes["mlp"], calibration_sha256="c" * 64)
    cache = ArtifactCache(tmp_path / "artifacts")
    manifest = optimize(sources["mlp"], f"openvino-{precision}", examples=examples, cache=cache).manifest
    step = {"int8": "nncf-int8", "fp16": "onnx-half-precision"}[precision]
    assert [record.step["use"] for record in manifest.steps] == ["export", step]
    assert manifest.files == ("model.xml", "model.bin")
    assert manifest.audit.ok
    assert {"openvino", "nncf"} <= set(manifest.tools)


@needs_nncf
def test_other_calibration_data_is_another_variant(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """int8 alone, whose default step calibrates, is built again from other calibration data, and not from the same."""
    cache = ArtifactCache(tmp_path / "artifacts")
    folders = [
        optimize(
            str(onnx_model("mlp").path),
            "openvino-int8",
            examples=Examples(probes["mlp"], probes["mlp"], calibration_sha256=letter * 64),
            cache=cache,
        ).folder
        for letter in "aba"
    ]
    assert folders[0] == folders[2] != folders[1]


@needs_nncf
def test_images_are_quantized_without_attention(
    onnx_model: Get, apply: Any, run_model: Any, probes: Any, tmp_path: Path
) -> None:
    """A CNN is no transformer; its convolutions and its product are replaced, and OpenVINO answers near its FP32 scores."""
    data = tuple({"input": np.random.default_rng(n).standard_normal((8, 1, 8, 8)).astype(np.float64)} for n in range(4))
    result = apply(onnx_model("cnn"), "nncf-int8", data, samples=20)
    assert result.details == {"nodes_replaced": {"Conv": 2, "Gemm": 1}, "samples": 20, "transformer": False}
    folder = tmp_path / "artifact"
    folder.mkdir()
    predictor = opened(result.model, folder)
    for probe in probes["cnn"]:
        expected = run_model(onnx_model("cnn"), probe)
        found = next(iter(predictor.arrays(predictor.infer(predictor.load(probe))).values()))
        assert np.abs(found - expected).max() < np.abs(expected).max() / 5


@needs_nncf
def test_reduced_range_leaves_weights_seven_bits(onnx_model: Get, apply: Any) -> None:
    """With reduce_range no weight exceeds 64 in size; without it some reach 127."""
    data = tuple({"features": np.random.default_rng(n).standard_normal((8, 6)).astype(np.float32)} for n in range(4))
    largest = {}
    for reduce_range in (True, False):
        result = apply(onnx_model("mlp"), "nncf-int8", data, reduce_range=reduce_range)
        graph = onnx.load(str(result.model.path))
        small = [array for _, array in weights_of(graph) if array.dtype == np.int8 and array.ndim > 1]
        largest[reduce_range] = max(int(np.abs(array.astype(int)).max()) for array in small)
    assert largest[True] <= 64
    assert largest[False] >= 127


@needs_nncf
def test_data_that_does_not_fit_is_a_build_error(onnx_model: Get, apply: Any) -> None:
    """Data of a shape that the graph does not take ends in a sentence."""
    with pytest.raises(BuildError, match="nncf-int8: NNCF refused the graph: "):
        apply(onnx_model("cnn"), "nncf-int8", ({"input": np.zeros((2, 3, 5, 5), np.float32)},))


@needs_nncf
def test_a_graph_without_weights_is_refused(tmp_path: Path, apply: Any) -> None:
    """Where nothing can be replaced the text says what could have been."""
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])] for name in ("x", "y"))
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="r")], "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(tmp_path / "given.onnx"))
    given = OnnxModel(tmp_path / "given.onnx", Signature("classifier", (), ("y",)))
    with pytest.raises(
        BuildError, match="nncf-int8 replaced no node; it can replace Conv, ConvTranspose, Gemm, MatMul"
    ):
        apply(given, "nncf-int8", ({"x": np.ones((2, 3), np.float32)},))


def test_a_graph_of_fixed_batch_is_calibrated_on_whole_batches(
    onnx_model: Get, apply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows in batches of 8, 8 and 4, NNCF is given the two that a graph of batch 8 takes."""
    model = onnx_model("mlp")
    seen: list[int] = []

    def noted(graph: Any, config: Any, batches: list[Batch], *, transformer: bool) -> Any:
        del config, transformer
        seen.extend(len(batch["features"]) for batch in batches)
        return graph

    monkeypatch.setattr(nncf_int8.importlib.util, "find_spec", lambda _: "here")
    monkeypatch.setattr(nncf_int8, "_quantized", noted)
    fixed = replace(model, signature=replace(model.signature, inputs=(TensorSpec("features", "float32", (8, 6)),)))
    data = tuple({"features": np.ones((rows, 6), np.float32)} for rows in (8, 8, 4))
    with pytest.raises(BuildError, match="nncf-int8 replaced no node"):
        apply(fixed, "nncf-int8", data)
    assert seen == [8, 8]


def test_without_calibration_data_the_key_is_named(onnx_model: Get, apply: Any, probes: Any, tmp_path: Path) -> None:
    """The text says what is missing and where it is set; the build asks for it before it starts."""
    with pytest.raises(ConfigError, match=r"nncf-int8 needs calibration data: set \[workload\] calibration"):
        apply(onnx_model("mlp"), "nncf-int8")
    recipe = Recipe("onnxruntime", "int8", (step_from_dict({"use": "nncf-int8"}),))
    with pytest.raises(ConfigError, match="step 'nncf-int8' needs calibration data"):
        optimize(
            str(onnx_model("mlp").path),
            recipe,
            examples=Examples(probes["mlp"]),
            cache=ArtifactCache(tmp_path / "artifacts"),
        )


def test_without_the_package_it_says_what_to_install(
    onnx_model: Get, apply: Any, probes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing NNCF makes the step unavailable, with the command that would help."""
    monkeypatch.setattr(nncf_int8.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"nncf is not installed.*pip install 'weighbridge\[openvino\]'"):
        apply(onnx_model("mlp"), "nncf-int8", probes["mlp"])


def test_a_torch_module_is_refused(torch_model: Get, apply: Any) -> None:
    """The technique works on ONNX graphs and says so."""
    with pytest.raises(BuildError, match="nncf-int8 quantizes ONNX graphs only"):
        apply(torch_model("mlp"), "nncf-int8", ({"features": np.ones((1, 6), np.float32)},))


@pytest.mark.parametrize(("flags", "expected"), [({"avx_vnni"}, False), ({"avx2"}, True)])
def test_the_default_range_is_this_processors(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: bool) -> None:
    """Without VNNI, where 8-bit products overflow, weights have seven bits."""
    monkeypatch.setattr("weighbridge.optimize.cpu.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("weighbridge.optimize.cpu.cpu_flags", lambda: frozenset(flags))
    assert step_from_dict({"use": "nncf-int8"}).to_dict()["reduce_range"] is expected
