"""The ONNX Runtime backend: the file as it is, on the provider that was asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.backends import onnxruntime_backend
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.onnxruntime_backend import BACKEND, make_session
from weighbridge.optimize.backends.torch_backend import open_in_memory
from weighbridge.optimize.errors import BuildError, ConfigError, InputError, UnavailableError
from weighbridge.optimize.model import OnnxModel
from weighbridge.optimize.onnx_files import read_signature

Get = Callable[[str], Any]
CPU = "CPUExecutionProvider"


def opened(model: OnnxModel, folder: Path) -> Any:
    return BACKEND.open(folder, BACKEND.build(model, folder), model.signature, OpenOptions())


@pytest.mark.parametrize("name", ["bert", "cnn", "lstm", "mlp"])
def test_an_artifact_answers_as_the_module(
    torch_model: Get, onnx_model: Get, probes: Any, tmp_path: Path, name: str
) -> None:
    """The built artifact gives the class scores of the source module, as float32, under their name."""
    predictor, reference = opened(onnx_model(name), tmp_path), open_in_memory(torch_model(name))
    for probe in probes[name]:
        given = predictor.arrays(predictor.infer(predictor.load(probe)))
        expected = reference.arrays(reference.infer(reference.load(probe)))
        assert list(given) == ["logits"]
        assert given["logits"].dtype == np.float32
        assert np.abs(given["logits"] - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("rows", [1, 4])
def test_a_decoder_steps_as_the_module(torch_model: Get, onnx_model: Get, tmp_path: Path, name: str, rows: int) -> None:
    """Prefill with left padding and steps of one and two tokens give the logits of the torch decoder."""
    decoder, reference = opened(onnx_model(name), tmp_path), open_in_memory(torch_model(name))
    ids = np.random.default_rng(rows).integers(0, 100, (rows, 9))
    mask = np.ones_like(ids)
    if rows > 1:
        mask[0, :3] = 0
    past = expected_past = None
    for start, stop in ((0, 6), (6, 7), (7, 9)):
        fed = np.ascontiguousarray(ids[:, start:stop])
        logits, past = decoder.step(fed, mask[:, :stop], past)
        expected, expected_past = reference.step(fed, mask[:, :stop], expected_past)
        real = mask[:, start:stop].astype(bool)
        assert logits.shape == expected.shape
        assert logits.dtype == np.float32
        assert np.abs(logits - expected)[real].max() < 1e-4


def test_the_cache_of_a_decoder_stays_in_the_runtime(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """What a step returns as cache are the runtime's own values, two a layer, grown by the tokens fed."""
    decoder = opened(onnx_model("gpt2"), tmp_path)
    prompt = probes["gpt2"][1]
    _, past = decoder.step(prompt["input_ids"], prompt["attention_mask"], None)
    assert all(isinstance(value, onnxruntime.OrtValue) for value in past)
    assert [list(value.shape()) for value in past] == [[4, 2, 8, 16]] * 4
    decoder.close()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_only_the_last_position_is_scored_where_no_more_is_wanted(onnx_model: Get, tmp_path: Path, name: str) -> None:
    """With `last` a step gives the logits of the last position of each row and the same cache."""
    decoder = opened(onnx_model(name), tmp_path)
    ids = np.random.default_rng(7).integers(0, 100, (3, 6))
    mask = np.ones_like(ids)
    logits, past = decoder.step(ids, mask, None)
    alone, same = decoder.step(ids, mask, None, last=True)
    assert alone.shape == (3, 1, logits.shape[2])
    np.testing.assert_allclose(alone[:, 0], logits[:, -1], atol=1e-5)
    for ours, theirs in zip(same, past, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_cache_has_the_bytes_of_its_signature(onnx_model: Get, tmp_path: Path) -> None:
    """What the runtime holds after a step is as large as the signature says for so many positions."""
    model = onnx_model("llama")
    ids = np.ones((3, 6), np.int64)
    _, past = opened(model, tmp_path).step(ids, ids, None)
    assert sum(value.numpy().nbytes for value in past) == model.signature.cache.bytes(3, 6)


def test_inputs_take_the_types_of_the_graph(onnx_model: Get, tmp_path: Path) -> None:
    """Arrays are given in the graph's types, and those that the graph does not take are left out."""
    predictor = opened(onnx_model("mlp"), tmp_path)
    tensors = predictor.load({"features": np.ones((2, 6), np.float64), "labels": np.zeros(2)})
    assert {name: array.dtype.name for name, array in tensors.items()} == {"features": "float32"}
    predictor.close()


def test_a_missing_input_is_named(onnx_model: Get, tmp_path: Path) -> None:
    """Data without one of the graph's inputs says which, and what there is."""
    predictor = opened(onnx_model("mlp"), tmp_path)
    with pytest.raises(InputError, match="input 'features' is not in the data; it has: pixels"):
        predictor.load({"pixels": np.zeros((1, 6), np.float32)})


def saved_graph(path: Path, nodes: list[Any], outputs: list[Any], weights: dict[str, Any], kind: int) -> OnnxModel:
    """Write a graph with one input x (batch, 2) of a type."""
    inputs = [helper.make_tensor_value_info("x", kind, ["batch", 2])]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return OnnxModel(path, read_signature(model))


def test_scores_come_first_and_as_float32(tmp_path: Path) -> None:
    """Of a graph that gives labels and then FP16 scores, the scores are first, as float32."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("Add", ["x", "one"], ["scores"]),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT16, ["batch", 2]),
    ]
    weights = {"one": np.float16([1, 2])}
    model = saved_graph(tmp_path / "m.onnx", nodes, outputs, weights, TensorProto.FLOAT16)
    predictor = opened(model, tmp_path)
    arrays = predictor.arrays(predictor.infer(predictor.load({"x": np.float32([[1, 5], [9, 3]])})))
    assert list(arrays) == ["scores", "label"]
    assert arrays["scores"].dtype == np.float32
    assert arrays["scores"].tolist() == [[2, 7], [10, 5]]
    assert arrays["label"].tolist() == [1, 0]


def test_weights_beside_the_file_are_part_of_the_artifact(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """A model with external data is built with it, byte for byte, and opens without its source."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "weights").mkdir(parents=True)
    target.mkdir()
    exported = onnx_model("mlp")
    model = onnx.load(exported.path)
    onnx.save(model, source / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    files = BACKEND.build(OnnxModel(source / "m.onnx", exported.signature), target)
    assert files == ("model.onnx", "w.bin")
    assert (target / "w.bin").read_bytes() == (source / "w.bin").read_bytes()
    (source / "w.bin").unlink()
    predictor = BACKEND.open(target, files, exported.signature, OpenOptions())
    assert predictor.infer(predictor.load(probes["mlp"][0]))[0].shape == (1, 4)
    assert BACKEND.audit(target, files, "fp32").ok


def test_an_audit_tells_nodes_weights_and_provider(onnx_model: Get, tmp_path: Path) -> None:
    """An FP32 export passes as fp32 and on the CPU provider; as int8 it is refused with the nodes that are left."""
    files = BACKEND.build(onnx_model("mlp"), tmp_path)
    audit = BACKEND.audit(tmp_path, files, "fp32")
    assert audit.ok
    assert audit.nodes == {"Gemm": 2, "Relu": 1}
    assert audit.weight_bytes["float32"] == 4 * 180
    assert (audit.parameters, audit.sparsity, audit.providers) == (180, 0.0, (CPU,))
    refused = BACKEND.audit(tmp_path, files, "int8")
    assert not refused.ok
    assert refused.reason == "asked for int8, but no node computes in integers; left in floating point: 2 Gemm"


def test_sessions_take_the_threads_asked_for_and_do_not_spin(onnx_model: Get) -> None:
    """A session has the threads asked for, one of inter-op parallelism, and threads that sleep between calls."""
    settings = make_session(onnx_model("mlp").path, OpenOptions(threads=2)).get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (2, 1)
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert settings.get_session_config_entry("session.inter_op.allow_spinning") == "0"


def test_an_absent_provider_is_unavailable(onnx_model: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that the installed runtime does not have is unavailable, with what it has and what to install."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(
        UnavailableError, match=r"CUDAExecutionProvider, but .* has only CPUExecutionProvider;.*onnxruntime-gpu"
    ):
        make_session(onnx_model("mlp").path, OpenOptions(provider="cuda"))
    with pytest.raises(ConfigError, match=r"no provider 'tpu' here\. Allowed: cpu, cuda"):
        make_session(onnx_model("mlp").path, OpenOptions(provider="tpu"))


def test_a_silent_fall_back_is_a_build_error(onnx_model: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the runtime takes another provider than the one asked for, both are named."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    create = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, settings, **_: create(path, settings, providers=[CPU])
    )
    message = "asked for CUDAExecutionProvider, but ONNX Runtime silently fell back to CPUExecutionProvider"
    with pytest.raises(BuildError, match=message):
        make_session(onnx_model("mlp").path, OpenOptions(provider="cuda"))


def test_a_file_that_the_runtime_refuses_is_a_build_error(tmp_path: Path) -> None:
    """An operator that the runtime does not know is refused with the first line of its own message."""
    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"], domain="own")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])]
    model = saved_graph(tmp_path / "odd.onnx", nodes, outputs, {}, TensorProto.FLOAT)
    with pytest.raises(BuildError, match=r"ONNX Runtime refuses odd\.onnx: \w+: .*") as caught:
        make_session(model.path, OpenOptions())
    assert "\n" not in str(caught.value)


def test_an_input_type_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    """A graph whose input numpy cannot hold is refused with the input's name."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])]
    model = saved_graph(tmp_path / "bf16.onnx", nodes, outputs, {}, TensorProto.BFLOAT16)
    with pytest.raises(InputError, match=r"input 'x' has type tensor\(bfloat16\), which numpy cannot hold"):
        BACKEND.open(tmp_path, ("bf16.onnx",), model.signature, OpenOptions())


def test_a_module_must_be_exported_first(torch_model: Get, tmp_path: Path) -> None:
    """The backend builds from ONNX graphs only."""
    with pytest.raises(BuildError, match="builds from ONNX models only; export the module first"):
        BACKEND.build(torch_model("mlp"), tmp_path)


def test_default_steps_follow_from_the_precision() -> None:
    """fp32 needs no step; int8, int4 and fp16 have their technique; what the runtime cannot compute in is said."""
    assert BACKEND.default_steps("fp32", "classifier") == ()
    assert [step.use for step in BACKEND.default_steps("int8", "classifier")] == ["dynamic-int8"]
    assert [step.use for step in BACKEND.default_steps("fp16", "classifier")] == ["onnx-half-precision"]
    with pytest.raises(ConfigError, match=r"ONNX Runtime has no bf16 kernels on a CPU.*for bf16 use backend torch"):
        BACKEND.default_steps("bf16", "classifier")
    (int4,) = BACKEND.default_steps("int4", "classifier")
    assert (int4.use, int4.to_dict()["bits"]) == ("weight-only", 4)


def test_a_generators_int4_has_larger_blocks_without_zero_points() -> None:
    """A classifier's INT4 has blocks of 32 with zero points, a generator's has symmetric ones of 128."""
    (classifier,) = BACKEND.default_steps("int4", "classifier")
    (generator,) = BACKEND.default_steps("int4", "decoder")
    facts = [(each.to_dict()["block_size"], each.to_dict()["symmetric"]) for each in (classifier, generator)]
    assert facts == [(32, False), (128, True)]


def test_availability_needs_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, the version is told; otherwise the reason and the command."""
    assert BACKEND.availability().usable
    assert BACKEND.availability().version == onnxruntime.__version__
    monkeypatch.setattr(onnxruntime_backend.importlib.util, "find_spec", lambda _: None)
    absent = BACKEND.availability()
    assert (absent.usable, absent.reason, absent.remedy) == (
        False,
        "onnxruntime is not installed",
        "pip install onnxruntime",
    )
