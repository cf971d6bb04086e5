"""Existing artifacts are copied as they are, audited and checked, and never rebuilt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.adoption import adopt
from weighbridge.optimize.backends import backend
from weighbridge.optimize.backends.base import Availability
from weighbridge.optimize.build import optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, InputError, UnavailableError
from weighbridge.optimize.files import sha256_of_file
from weighbridge.optimize.loading import describe
from weighbridge.optimize.model import Examples, OnnxModel, Signature
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import technique

Get = Callable[[str], Any]


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "artifacts")


def linear(path: Path, weight: Any, bias: Any, *, external: bool = False) -> Path:
    """A file of one linear layer from `features` to scores."""
    tensors = [
        numpy_helper.from_array(np.asarray(each, np.float32), name) for each, name in ((weight, "w"), (bias, "b"))
    ]
    shape: list[Any] = ["n", 6]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(bias)])]
    nodes = [helper.make_node("Gemm", ["features", "w", "b"], ["y"], name="g")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options: dict[str, Any] = {"location": "weights.bin", "size_threshold": 0} if external else {}
    onnx.save(model, str(path), save_as_external_data=external, **options)
    return path


WEIGHT = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def test_an_artifact_is_copied_as_it_is(onnx_model: Get, probes: dict[str, Any], cache: ArtifactCache) -> None:
    """The copy has the hash of the file; without a reference there is no parity; the recipe names the artifact."""
    path = onnx_model("mlp").path
    variant = adopt(path, "onnxruntime", "fp32", examples=Examples(probes["mlp"]), cache=cache)
    assert variant.manifest.sha256 == {"model.onnx": sha256_of_file(path)}
    assert variant.manifest.parity is None
    assert variant.manifest.steps == ()
    assert list(variant.manifest.recipe) == ["artifact"]
    variant.open().close()


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_tell_their_precision(
    tmp_path: Path, cache: ArtifactCache, probes: dict[str, Any], bits: int
) -> None:
    """Of an artifact that nothing is said of, the audit finds whether its weights are packed in 4 or in 8 bits."""
    given = OnnxModel(linear(tmp_path / "m.onnx", WEIGHT, [0] * 4), Signature("classifier", (), ("y",)))
    step = step_from_dict({"use": "weight-only", "bits": bits})
    packed = technique("weight-only").apply(given, step, Examples(()), cache.root.parent).model
    assert isinstance(packed, OnnxModel)
    manifest = adopt(packed.path, "onnxruntime", None, examples=Examples(probes["mlp"]), cache=cache).manifest
    assert manifest.precision == f"int{bits}"
    assert manifest.parameters == 28


def test_weights_in_half_the_bytes_are_not_fp32(tmp_path: Path, cache: ArtifactCache, probes: dict[str, Any]) -> None:
    """A file of BF16 weights that ONNX Runtime widens is none of its precisions, and what it holds is told."""
    given = OnnxModel(linear(tmp_path / "m.onnx", WEIGHT, [0] * 4), Signature("classifier", (), ("y",)))
    step = step_from_dict({"use": "onnx-bf16-weights"})
    stored = technique("onnx-bf16-weights").apply(given, step, Examples(()), tmp_path).model
    assert isinstance(stored, OnnxModel)
    found = "the audit finds none of fp32, int8, fp16, int4 in the artifact: asked for fp32, but float32 weights take 16 bytes"
    with pytest.raises(BuildError, match=f"{found} and bfloat16 ones 48"):
        adopt(stored.path, "onnxruntime", None, examples=Examples(probes["mlp"]), cache=cache)


def test_an_artifact_is_taken_once(onnx_model: Get, probes: dict[str, Any], cache: ArtifactCache) -> None:
    """The second time it comes from the cache and nothing is told."""
    told: list[str] = []

    def take() -> Any:
        examples = Examples(probes["mlp"])
        return adopt(
            onnx_model("mlp").path, "onnxruntime", "fp32", examples=examples, cache=cache, progress=told.append
        )

    first = take()
    assert told == ["copying, auditing and checking the artifact"]
    assert take() == first
    assert len(told) == 1


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_precision_that_is_not_told_is_found(
    onnx_model: Get, probes: dict[str, Any], cache: ArtifactCache, precision: str
) -> None:
    """Of a file that was built as FP32, FP16 or INT8 the audit says which it is."""
    examples = Examples(probes["mlp"])
    built = optimize(onnx_model("mlp").path, f"onnxruntime-{precision}", examples=examples, cache=cache)
    taken = adopt(built.folder / "model.onnx", "onnxruntime", None, examples=examples, cache=cache)
    assert taken.manifest.precision == precision
    assert taken.manifest.sha256 == built.manifest.sha256


def test_an_artifact_under_a_false_name_is_refused(
    onnx_model: Get, probes: dict[str, Any], cache: ArtifactCache
) -> None:
    """FP32 said to be INT8, and INT8 said to be FP32, fail with what was found; nothing is cached."""
    examples = Examples(probes["mlp"])
    with pytest.raises(BuildError, match="not what its name says: asked for int8, but no node computes in integers"):
        adopt(onnx_model("mlp").path, "onnxruntime", "int8", examples=examples, cache=cache)
    assert cache.variants() == ()
    int8 = optimize(onnx_model("mlp").path, "onnxruntime-int8", examples=examples, cache=cache)
    with pytest.raises(BuildError, match="asked for fp32, but 2 nodes compute in integers"):
        adopt(int8.folder / "model.onnx", "onnxruntime", "fp32", examples=examples, cache=cache)


def test_with_a_reference_the_artifact_is_compared(
    onnx_model: Get, sources: dict[str, Source], probes: dict[str, Any], cache: ArtifactCache, tmp_path: Path
) -> None:
    """The export of the reference agrees with it; a file of other classes, or of other answers, does not."""
    examples, reference = Examples(probes["mlp"]), sources["mlp"]
    variant = adopt(onnx_model("mlp").path, "onnxruntime", "fp32", examples=examples, reference=reference, cache=cache)
    assert variant.manifest.parity is not None
    assert variant.manifest.parity.agreement == 1
    fewer = linear(tmp_path / "fewer.onnx", WEIGHT[:, :3], [0, 0, 0])
    with pytest.raises(BuildError, match="the artifact was discarded: outputs have the shape 1x3 instead of 1x4"):
        adopt(fewer, "onnxruntime", "fp32", examples=examples, reference=reference, cache=cache)


def test_without_a_reference_answers_must_be_answers(
    probes: dict[str, Any], cache: ArtifactCache, tmp_path: Path
) -> None:
    """NaN, and one answer for every input, are refused; a layer of numbers is not."""
    examples = Examples(probes["mlp"])
    adopt(linear(tmp_path / "good.onnx", WEIGHT, [0] * 4), "onnxruntime", "fp32", examples=examples, cache=cache)
    cases = {"NaN": linear(tmp_path / "nan.onnx", WEIGHT, [np.nan, 0, 0, 0])}
    cases["constant"] = linear(tmp_path / "constant.onnx", 0 * WEIGHT, [1, 2, 3, 4])
    for words, path in cases.items():
        with pytest.raises(BuildError, match=f"the artifact was discarded: .*{words}"):
            adopt(path, "onnxruntime", "fp32", examples=examples, cache=cache)


def test_weights_beside_the_file_are_copied_with_it(
    probes: dict[str, Any], cache: ArtifactCache, tmp_path: Path
) -> None:
    """External data is part of the artifact: its bytes and hash are in the manifest, and the copy opens without the original."""
    given = linear(tmp_path / "big.onnx", WEIGHT, [0] * 4, external=True)
    variant = adopt(given, "onnxruntime", "fp32", examples=Examples(probes["mlp"]), cache=cache)
    assert variant.manifest.files == ("model.onnx", "weights.bin")
    assert variant.manifest.bytes >= WEIGHT.nbytes
    given.unlink()
    (tmp_path / "weights.bin").unlink()
    variant.open().close()


def test_a_transformers_folder_is_a_torch_artifact(
    tiny_bert: Path, probes: dict[str, Any], cache: ArtifactCache, tmp_path: Path
) -> None:
    """Its weights are copied byte by byte; without them in one safetensors file it is refused."""
    examples = Examples(probes["bert"])
    variant = adopt(tiny_bert, "torch", None, examples=examples, cache=cache)
    assert variant.manifest.precision == "fp32"
    assert variant.manifest.sha256["model.safetensors"] == sha256_of_file(tiny_bert / "model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny_bert / "config.json").read_bytes())
    with pytest.raises(InputError, match="holds no model.safetensors; save the model with save_pretrained"):
        adopt(tmp_path, "torch", "fp32", examples=examples, cache=cache)


def test_files_that_are_no_artifacts_are_input_errors(
    onnx_model: Get, probes: dict[str, Any], cache: ArtifactCache, tmp_path: Path
) -> None:
    """A missing, an empty and a cut file are told by name; nothing is left in the cache."""
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "cut.onnx").write_bytes(onnx_model("mlp").path.read_bytes()[:300])
    for name in ("absent", "empty", "cut"):
        with pytest.raises(InputError, match=f"{name}.onnx is not"):
            adopt(tmp_path / f"{name}.onnx", "onnxruntime", "fp32", examples=Examples(probes["mlp"]), cache=cache)
    assert cache.variants() == ()


def test_data_that_the_artifact_does_not_take_is_an_input_error(
    onnx_model: Get, probes: dict[str, Any], cache: ArtifactCache
) -> None:
    """An input that the data lacks is named; another shape ends in a sentence with the runtime's first line."""
    path = onnx_model("mlp").path
    with pytest.raises(InputError, match="'features' is not in the data"):
        adopt(path, "onnxruntime", "fp32", examples=Examples(probes["cnn"]), cache=cache)
    wide = ({"features": np.zeros((2, 9), np.float32)},)
    with pytest.raises(InputError, match="it cannot be run on the data: "):
        adopt(path, "onnxruntime", "fp32", examples=Examples(wide), cache=cache)


def test_an_artifact_that_is_nothing_known_names_what_was_tried(
    tmp_path: Path, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch, probes: dict[str, Any]
) -> None:
    """Where the audit confirms no precision the text lists them with the first reason."""
    from weighbridge.optimize.backends.base import Audit

    no = Audit(ok=False, reason="it is odd")
    monkeypatch.setattr(type(backend("onnxruntime")), "audit", lambda *_: no)
    path = linear(tmp_path / "good.onnx", WEIGHT, [0] * 4)
    with pytest.raises(BuildError, match="the audit finds none of fp32, int8, fp16.* in the artifact: it is odd"):
        adopt(path, "onnxruntime", None, examples=Examples(probes["mlp"]), cache=cache)


def test_no_probes_and_no_backend_are_said(
    tmp_path: Path, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without real inputs, or on a machine that cannot run the backend, nothing is looked at."""
    with pytest.raises(InputError, match="give at least one batch as Examples.probes"):
        adopt(tmp_path / "x.onnx", "onnxruntime", "fp32", examples=Examples(()), cache=cache)
    gone = Availability(usable=False, reason="not installed", remedy="pip install it")
    monkeypatch.setattr(type(backend("onnxruntime")), "availability", lambda _: gone)
    with pytest.raises(UnavailableError, match="not installed. To make it available: pip install it"):
        adopt(tmp_path / "x.onnx", "onnxruntime", "fp32", examples=Examples(()), cache=cache)


def test_a_vanished_artifact_is_said_to_have_vanished(
    tmp_path: Path, cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache is cleared behind the command's back the text says so."""
    (tmp_path / "a.fake.json").write_text("{}", encoding="utf-8")
    assert describe("fake", str(tmp_path / "a.fake.json"), "tabular-classification").sha256
    monkeypatch.setattr(ArtifactCache, "get", lambda self, key, tell=None: None)  # noqa: ARG005 - a method
    rows = ({"x": np.array([[0, 0], [1, 1]], np.float32)},)
    with pytest.raises(BuildError, match="the artifact vanished from"):
        adopt(tmp_path / "a.fake.json", "fake", "fp32", examples=Examples(rows), cache=cache)
