"""OpenVINO: built from an ONNX graph, opened in the precision and threads that were asked for or refused, audited as it ran."""

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.backends import onnxruntime_backend, openvino_backend
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.openvino_backend import BACKEND, compile_ir
from weighbridge.optimize.backends.torch_backend import open_in_memory
from weighbridge.optimize.build import optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, ConfigError, InputError, NotAvailableYetError, UnavailableError
from weighbridge.optimize.model import Examples, OnnxModel
from weighbridge.optimize.no_telemetry import without_telemetry
from weighbridge.optimize.onnx_files import read_signature
from weighbridge.optimize.openvino_audit import weight_precision
from weighbridge.optimize.recipe import Recipe
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import technique

Get = Callable[[str], Any]
CLASSIFIERS = ("bert", "cnn", "lstm", "mlp")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed: pip install 'weighbridge[openvino]'",
)


def opened(model: OnnxModel, folder: Path, **options: Any) -> Any:
    return BACKEND.open(folder, BACKEND.build(model, folder), model.signature, OpenOptions(**options))


def scores(predictor: Any, batch: Any) -> Any:
    return next(iter(predictor.arrays(predictor.infer(predictor.load(batch))).values()))


class FakeCore:
    """OpenVINO's core as it would be on another processor; compiled models say what they were not asked for."""

    def __init__(self, capabilities: tuple[str, ...], told: dict[str, Any] | None = None) -> None:
        self._real = without_telemetry("openvino").Core()
        self._capabilities = list(capabilities)
        self._told = told or {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_property(self, device: str, name: str) -> Any:
        return self._capabilities if name == "OPTIMIZATION_CAPABILITIES" else self._real.get_property(device, name)

    def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
        return FakeCompiled(self._real.compile_model(model, device, settings), self._told)


class FakeCompiled:
    """A compiled model of which some properties are told otherwise."""

    def __init__(self, real: Any, told: dict[str, Any]) -> None:
        self._real, self._told = real, told

    def get_property(self, name: str) -> Any:
        return self._told.get(name, self._real.get_property(name))


@pytest.fixture
def on_core(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function (capabilities, told) that puts a fake core in the place of OpenVINO's."""

    def put(capabilities: tuple[str, ...], told: dict[str, Any] | None = None) -> None:
        core = FakeCore(capabilities, told)
        stand_in = type("Library", (), {"Core": lambda: core, "save_model": without_telemetry("openvino").save_model})
        monkeypatch.setattr(openvino_backend, "without_telemetry", lambda _: stand_in)

    return put


def converted(model: OnnxModel, step: str, folder: Path) -> OnnxModel:
    """The model after a technique that needs no option."""
    folder.mkdir()
    changed = technique(step).apply(model, technique(step).config(), Examples(()), folder).model
    assert isinstance(changed, OnnxModel)
    return changed


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is a reason with its command."""
    monkeypatch.setattr(openvino_backend.importlib.util, "find_spec", lambda _: None)
    absent = BACKEND.availability()
    assert (absent.usable, absent.reason) == (False, "openvino is not installed")
    assert absent.remedy == "pip install 'weighbridge[openvino]'"


def test_with_the_package_its_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package makes the backend usable and shows its version."""
    monkeypatch.setattr(openvino_backend.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(openvino_backend.metadata, "version", lambda _: "2026.3")
    there = BACKEND.availability()
    assert (there.usable, there.version) == (True, "2026.3")


def test_default_steps_follow_from_the_precision() -> None:
    """fp32 needs no step; fp16 and int8 have their technique; what the backend does not build is said."""
    assert BACKEND.default_steps("fp32", "classifier") == ()
    assert [step.use for step in BACKEND.default_steps("fp16", "classifier")] == ["onnx-half-precision"]
    assert [step.use for step in BACKEND.default_steps("int8", "classifier")] == ["nncf-int8"]
    with pytest.raises(ConfigError, match="the openvino backend builds no int4. Allowed: fp32, bf16, fp16, int8"):
        BACKEND.default_steps("int4", "classifier")


def test_generators_in_int8_are_not_available_yet() -> None:
    """The default steps of a generator in INT8 are refused, with what to use instead; FP32 needs none."""
    assert BACKEND.default_steps("fp32", "decoder") == ()
    with pytest.raises(NotAvailableYetError, match="in INT8 on OpenVINO are not available yet .* use onnxruntime"):
        BACKEND.default_steps("int8", "decoder")


@needs_openvino
def test_a_generator_is_built_in_fp16(sources: dict[str, Source], probes: dict[str, Any], tmp_path: Path) -> None:
    """Its graph is exported for OpenVINO and not taken from ONNX Runtime's FP32 variant, whose operators OpenVINO does not know."""
    source, examples = sources["gpt2"], Examples(probes["gpt2"])
    variant = optimize(source, Recipe("openvino", "fp16"), examples=examples, cache=ArtifactCache(tmp_path))
    assert [step.step["use"] for step in variant.manifest.steps] == ["export", "onnx-half-precision"]
    assert variant.manifest.audit.ok


@needs_openvino
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_steps_as_the_module(torch_model: Get, onnx_model: Get, tmp_path: Path, name: str) -> None:
    """Prefill with left padding and steps of one and two tokens give the logits of the torch decoder, for two prompts in turn."""
    decoder, reference = opened(onnx_model(name), tmp_path), open_in_memory(torch_model(name))
    random = np.random.default_rng(5)
    prompts = [random.integers(0, 100, (rows, 9)) for rows in (1, 4)]
    masks = [np.ones_like(ids) for ids in prompts]
    masks[1][0, :3] = 0
    pasts: list[Any] = [None, None]
    expected_pasts: list[Any] = [None, None]
    for start, stop in ((0, 6), (6, 7), (7, 9)):
        for turn, (ids, mask) in enumerate(zip(prompts, masks, strict=True)):
            fed = np.ascontiguousarray(ids[:, start:stop])
            logits, pasts[turn] = decoder.step(fed, mask[:, :stop], pasts[turn])
            expected, expected_pasts[turn] = reference.step(fed, mask[:, :stop], expected_pasts[turn])
            real = mask[:, start:stop].astype(bool)
            assert logits.shape == expected.shape
            assert np.abs(logits - expected)[real].max() < 1e-4
    decoder.close()


@needs_openvino
def test_a_cache_is_kept_in_the_precision_of_the_weights(onnx_model: Get, tmp_path: Path) -> None:
    """The plugin would keep it in 8 bits unasked; here it is FP32, as large as the signature says, and no output of the model."""
    model = onnx_model("gpt2")
    decoder = opened(model, tmp_path)
    _, compiled = compile_ir(tmp_path / "model.xml", OpenOptions())
    assert [port.get_any_name() for port in compiled.outputs] == ["logits"]
    assert compiled.get_property("KV_CACHE_PRECISION").get_type_name() == "f32"
    ids = np.ones((3, 6), np.int64)
    last, request = decoder.step(ids, ids, None, last=True)
    assert last.shape == (3, 1, 400)
    assert sum(state.state.byte_size for state in request.query_state()) == model.signature.cache.bytes(3, 6)


def test_a_module_must_be_exported_first(torch_model: Get, tmp_path: Path) -> None:
    """The backend builds from ONNX graphs only."""
    with pytest.raises(BuildError, match="builds from ONNX models only; export the module first"):
        BACKEND.build(torch_model("mlp"), tmp_path)


def test_other_providers_are_refused(tmp_path: Path) -> None:
    """Only the CPU is opened on; another name says what is allowed."""
    with pytest.raises(ConfigError, match="the openvino backend has no provider 'cuda'. Allowed: cpu"):
        compile_ir(tmp_path / "model.xml", OpenOptions(provider="cuda"))


def test_the_note_is_honest_about_what_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """FP16 without FP16 arithmetic and INT8 without VNNI are said to gain nothing; with them, and in FP32, there is no note."""
    monkeypatch.setattr("weighbridge.optimize.backends.notes.cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(openvino_backend, "int8_target", lambda: "x86")
    assert "FP16 is computed as FP32 with conversions" in BACKEND.note("fp16", ())
    assert BACKEND.note("int8", ()).startswith("no gain expected here: this CPU has no VNNI")
    assert BACKEND.note("fp32", ()) == ""
    monkeypatch.setattr(openvino_backend, "int8_target", lambda: "x86-vnni")
    assert BACKEND.note("int8", ()) == ""


@needs_openvino
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_an_artifact_answers_as_the_graph(onnx_model: Get, probes: Any, tmp_path: Path, name: str) -> None:
    """At batch 1, larger batches, padding and another length the IR gives the scores of ONNX Runtime, as float32."""
    predictor = opened(onnx_model(name), tmp_path)
    model = onnx_model(name)
    files = (model.path.name,)
    reference: Any = onnxruntime_backend.BACKEND.open(model.path.parent, files, model.signature, OpenOptions())
    for probe in probes[name]:
        given = predictor.arrays(predictor.infer(predictor.load(probe)))
        assert list(given) == ["logits"]
        assert given["logits"].dtype == np.float32
        expected = scores(reference, probe)
        assert given["logits"].shape == expected.shape
        assert np.abs(given["logits"] - expected).max() < 1e-4
    predictor.close()


@needs_openvino
def test_inputs_take_the_types_of_the_graph(onnx_model: Get, tmp_path: Path) -> None:
    """Arrays are given in the graph's types, those that it does not take are left out, a missing one is named."""
    predictor = opened(onnx_model("mlp"), tmp_path)
    tensors = predictor.load({"features": np.ones((2, 6), np.float64), "labels": np.zeros(2)})
    assert {name: array.dtype.name for name, array in tensors.items()} == {"features": "float32"}
    with pytest.raises(InputError, match="input 'features' is not in the data; it has: pixels"):
        predictor.load({"pixels": np.zeros((1, 6), np.float32)})


@needs_openvino
def test_outputs_are_not_overwritten_by_the_next_call(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """What a call gave stays as it was when the same thread calls again with other inputs."""
    predictor = opened(onnx_model("mlp"), tmp_path)
    batch = probes["mlp"][1]
    first = predictor.infer(predictor.load(batch))
    kept = np.array(next(iter(predictor.arrays(first).values())))
    predictor.infer(predictor.load({"features": 5 - batch["features"]}))
    assert np.array_equal(next(iter(predictor.arrays(first).values())), kept)


@needs_openvino
def test_callers_at_once_get_their_own_answers(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """Four threads that call one predictor again and again each get the answers to their own inputs."""
    predictor = opened(onnx_model("bert"), tmp_path)
    batches = [predictor.load({k: np.roll(v, n, axis=0) for k, v in probes["bert"][1].items()}) for n in range(4)]
    alone = [next(iter(predictor.arrays(predictor.infer(batch)).values())) for batch in batches]
    wrong: list[int] = []

    def call(number: int) -> None:
        for _ in range(25):
            found = next(iter(predictor.arrays(predictor.infer(batches[number])).values()))
            if np.abs(found - alone[number]).max() > 1e-5:
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


@needs_openvino
def test_one_stream_with_the_threads_asked_for(onnx_model: Get, tmp_path: Path) -> None:
    """The compiled model runs in one stream, with one thread, in FP32, bound to no core."""
    files = BACKEND.build(onnx_model("mlp"), tmp_path)
    _, compiled = compile_ir(tmp_path / files[0], OpenOptions(threads=1))
    wanted = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, "EXECUTION_DEVICES": ["CPU"]}
    assert {name: compiled.get_property(name) for name in wanted} == wanted
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


@needs_openvino
def test_more_threads_than_the_machine_has_are_refused(onnx_model: Get, tmp_path: Path) -> None:
    """The plugin would silently take fewer threads than asked for; opening says so instead."""
    files = BACKEND.build(onnx_model("mlp"), tmp_path)
    with pytest.raises(
        BuildError, match="asked OpenVINO for f32 on 4096 threads of the CPU, but it silently fell back"
    ):
        compile_ir(tmp_path / files[0], OpenOptions(threads=4096))


@needs_openvino
def test_another_precision_than_asked_for_is_refused(onnx_model: Get, tmp_path: Path, on_core: Any) -> None:
    """Where the plugin says that it took another precision, opening is refused with both."""
    half = without_telemetry("openvino").Type.bf16
    on_core(("FP32",), {"INFERENCE_PRECISION_HINT": half})
    with pytest.raises(BuildError, match="asked OpenVINO for f32 on 1 threads.*fell back to bf16 on 1 threads of CPU"):
        opened(onnx_model("mlp"), tmp_path)


@needs_openvino
def test_bf16_needs_a_processor_that_has_it(onnx_model: Get, tmp_path: Path, on_core: Any) -> None:
    """Without BF16 arithmetic the default steps, opening and the audit are unavailable, with the reason and a remedy."""
    model = converted(onnx_model("mlp"), "onnx-bf16-weights", tmp_path / "step")
    on_core(("FP32", "INT8"))
    files = BACKEND.build(model, tmp_path)
    for call in (
        lambda: BACKEND.default_steps("bf16", "classifier"),
        lambda: BACKEND.open(tmp_path, files, model.signature, OpenOptions()),
        lambda: BACKEND.audit(tmp_path, files, "bf16"),
    ):
        with pytest.raises(
            UnavailableError, match=r"no BF16 arithmetic \(OpenVINO finds FP32, INT8\).*AVX512-BF16 or AMX"
        ):
            call()
    on_core(("FP32", "BF16"))
    assert [step.use for step in BACKEND.default_steps("bf16", "classifier")] == ["onnx-bf16-weights"]


@needs_openvino
@pytest.mark.parametrize(
    ("capabilities", "refused"),
    [(("FP32", "BF16"), "bf16"), (("FP32", "FP16"), "f16")],
)
def test_a_processor_that_claims_half_precision_is_held_to_it(
    onnx_model: Get, tmp_path: Path, on_core: Any, capabilities: tuple[str, ...], refused: str
) -> None:
    """Half-precision weights are computed with in half precision where there is any; a fall-back to FP32 is refused."""
    step = {"bf16": "onnx-bf16-weights", "f16": "onnx-half-precision"}[refused]
    model = converted(onnx_model("mlp"), step, tmp_path / "step")
    on_core(capabilities, {"INFERENCE_PRECISION_HINT": without_telemetry("openvino").Type.f32})
    with pytest.raises(BuildError, match=f"asked OpenVINO for {refused} on 1 threads.*fell back to f32"):
        opened(model, tmp_path)


@needs_openvino
def test_fp16_weights_halve_the_file_and_answer_nearly_as_before(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """An FP16 artifact holds FP16 weights, passes as fp16 and not as fp32, and moves the scores by under a hundredth."""
    model = converted(onnx_model("bert"), "onnx-half-precision", tmp_path / "step")
    (tmp_path / "full").mkdir()
    full, half = opened(onnx_model("bert"), tmp_path / "full"), opened(model, tmp_path)
    sizes = [(folder / "model.bin").stat().st_size for folder in (tmp_path / "full", tmp_path)]
    assert sizes[1] < 0.55 * sizes[0]
    for probe in probes["bert"]:
        expected = scores(full, probe)
        assert np.abs(scores(half, probe) - expected).max() < 0.01 * np.abs(expected).max()
    assert BACKEND.audit(tmp_path, ("model.xml",), "fp16").ok
    assert "asked for fp32, but the weights take" in BACKEND.audit(tmp_path, ("model.xml",), "fp32").reason


@needs_openvino
def test_an_audit_tells_operators_weights_and_what_ran(onnx_model: Get, tmp_path: Path) -> None:
    """An FP32 IR passes as fp32; claimed to be int8 or fp16 it is refused with what was found."""
    files = BACKEND.build(onnx_model("mlp"), tmp_path)
    audit = BACKEND.audit(tmp_path, files, "fp32")
    assert (audit.ok, audit.reason, audit.providers) == (True, "", ("CPU",))
    assert audit.parameters == 6 * 16 + 16 + 16 * 4 + 4
    assert audit.weight_bytes["f32"] >= 4 * audit.parameters
    assert {"MatMul": 2, "Relu": 1, "FullyConnected in f32": 2}.items() <= audit.nodes.items()
    claimed = BACKEND.audit(tmp_path, files, "int8")
    assert not claimed.ok
    assert claimed.reason.startswith("asked for int8, but no weight is stored in 8 bits or fewer (")
    assert BACKEND.audit(tmp_path, files, "fp16").reason.startswith("asked for fp16, but the weights take f32 ")


@needs_openvino
def test_an_audit_counts_exact_zeros(onnx_model: Get, tmp_path: Path) -> None:
    """Of a graph half of whose first weight is zero, the share of zeros is that of all its parameters."""
    source = onnx_model("mlp")
    graph = onnx.load(str(source.path))
    tensor = max(graph.graph.initializer, key=lambda each: int(np.prod(each.dims)))
    array = numpy_helper.to_array(tensor).copy()
    array.ravel()[: array.size // 2] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(graph, str(tmp_path / "pruned.onnx"))
    files = BACKEND.build(OnnxModel(tmp_path / "pruned.onnx", source.signature), tmp_path)
    assert BACKEND.audit(tmp_path, files, "fp32").sparsity == pytest.approx(48 / 180)


def weight_only_graph(path: Path) -> OnnxModel:
    """A product whose weight is kept in 8 bits and turned into floats before it: stored small, computed in FP32."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wide"]),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64])] for name in ("x", "y"))
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).integers(-99, 99, (64, 64)).astype(np.int8), "w"),
        numpy_helper.from_array(np.float32(0.01), "s"),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return OnnxModel(path, read_signature(model))


@needs_openvino
def test_small_weights_alone_are_no_int8(tmp_path: Path) -> None:
    """A model that stores its weights in 8 bits but runs no layer in 8 bits is not int8."""
    files = BACKEND.build(weight_only_graph(tmp_path / "given.onnx"), tmp_path)
    audit = BACKEND.audit(tmp_path, files, "int8")
    assert audit.weight_bytes["i8"] == 64 * 64
    assert audit.reason == "asked for int8, but no layer ran in 8 bits (FullyConnected in f32 1)"


@needs_openvino
def test_damaged_files_are_refused(onnx_model: Get, tmp_path: Path) -> None:
    """What OpenVINO cannot read ends in one line with the file's name."""
    BACKEND.build(onnx_model("mlp"), tmp_path)
    text = (tmp_path / "model.xml").read_text(encoding="utf-8")
    (tmp_path / "model.xml").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(BuildError, match=r"OpenVINO cannot read model\.xml: ") as caught:
        compile_ir(tmp_path / "model.xml", OpenOptions())
    assert "\n" not in str(caught.value)


@needs_openvino
def test_a_model_that_cannot_be_compiled_is_refused(
    onnx_model: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the plugin says when it refuses a model is told in one line."""
    BACKEND.build(onnx_model("mlp"), tmp_path)
    core = FakeCore(("FP32",))

    def refuse(*_: Any) -> Any:
        raise RuntimeError("Exception from src/core.cpp:84:\nno such layer\n")

    monkeypatch.setattr(core, "compile_model", refuse)
    monkeypatch.setattr(openvino_backend, "without_telemetry", lambda _: type("Library", (), {"Core": lambda: core}))
    with pytest.raises(BuildError, match=r"OpenVINO refuses model\.xml: no such layer$"):
        compile_ir(tmp_path / "model.xml", OpenOptions())


@needs_openvino
def test_a_whole_build_is_kept_and_opens_from_its_folder(
    sources: dict[str, Source], probes: Any, tmp_path: Path
) -> None:
    """An FP32 variant of a transformers model is exported, converted, audited, and answers as the source."""
    cache = ArtifactCache(tmp_path / "artifacts")
    variant = optimize(sources["bert"], "openvino-fp32", examples=Examples(probes["bert"]), cache=cache)
    manifest = variant.manifest
    assert manifest.files == ("model.xml", "model.bin")
    assert [step.step["use"] for step in manifest.steps] == ["export"]
    assert (manifest.audit.ok, variant.damage()) == (True, "")
    assert manifest.parity is not None
    assert manifest.parity.max_relative < 1e-5
    predictor: Any = variant.open()
    assert scores(predictor, probes["bert"][0]).shape == (1, 3)
    (variant.folder / "model.bin").write_bytes(b"")
    assert "does not have the hash of its manifest" in variant.damage()


@needs_openvino
def test_a_build_for_hardware_that_is_not_there_is_unavailable(
    sources: dict[str, Source], probes: Any, tmp_path: Path, on_core: Any
) -> None:
    """A BF16 variant on a processor without BF16 is unavailable, and nothing is cached."""
    on_core(("FP32",))
    cache = ArtifactCache(tmp_path / "artifacts")
    with pytest.raises(UnavailableError, match="no BF16 arithmetic"):
        optimize(sources["mlp"], Recipe("openvino", "bf16"), examples=Examples(probes["mlp"]), cache=cache)
    assert not list(cache.root.rglob("manifest.json"))


@needs_openvino
@pytest.mark.parametrize(
    ("step", "expected"), [(None, "f32"), ("onnx-bf16-weights", "bf16"), ("onnx-half-precision", "f16")]
)
def test_the_precision_is_that_of_most_weight_bytes(
    onnx_model: Get, tmp_path: Path, step: str | None, expected: str
) -> None:
    """The type of a model's weights is read from the model itself."""
    model = converted(onnx_model("bert"), step, tmp_path / "step") if step else onnx_model("bert")
    assert weight_precision(without_telemetry("openvino").Core().read_model(str(model.path))) == expected
