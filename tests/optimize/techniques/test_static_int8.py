"""Static INT8: Q/DQ pairs in the formats of the target, ranges from the calibration data and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize import cpu
from weighbridge.optimize.errors import BuildError, ConfigError
from weighbridge.optimize.model import Batch, OnnxModel, Signature
from weighbridge.optimize.onnx_files import count_nodes, nodes_of, read_signature, weights_of
from weighbridge.optimize.onnx_layers import layers_of, quantizable_layers
from weighbridge.optimize.parity import reference_of
from weighbridge.optimize.recipe import step_from_dict

Get = Callable[[str], Any]


def images(batches: int, rows: int, scale: float = 1.0) -> tuple[Batch, ...]:
    random = np.random.default_rng(9)
    return tuple(
        {"input": (scale * random.standard_normal((rows, 1, 8, 8)) ** 3).astype(np.float32)} for _ in range(batches)
    )


def more_like(probes: tuple[Batch, ...]) -> tuple[Batch, ...]:
    """The probes, and of floating-point inputs eight batches more: histograms of few numbers say little."""
    name, array = next(iter(probes[-1].items()))
    if array.dtype != np.float32:
        return probes
    random = np.random.default_rng(1)
    return (*probes, *({name: random.standard_normal((8, *array.shape[1:])).astype(np.float32)} for _ in range(8)))


@dataclass(frozen=True)
class Formats:
    """What a quantized graph stores: zero points of activations, weights and biases, and the input's scale."""

    activations: str
    weights: str
    bias: bool
    input_scale: float
    symmetric: bool


def formats_of(path: Path) -> Formats:
    graph = onnx.load(str(path))
    arrays = dict(weights_of(graph))
    quantize = next(node for node in nodes_of(graph) if node.op_type == "QuantizeLinear" and node.input[0] == "input")
    zero = arrays[quantize.input[2]]
    kinds = {array.dtype.name for name, array in arrays.items() if name.endswith("_quantized") and array.ndim > 1}
    assert len(kinds) == 1
    return Formats(
        activations=zero.dtype.name,
        weights=kinds.pop(),
        bias=any(array.dtype == np.int32 and name.endswith("_quantized") for name, array in arrays.items()),
        input_scale=float(arrays[quantize.input[1]]),
        symmetric=int(zero) == 0,
    )


@pytest.mark.parametrize(
    ("target", "activations", "bias"),
    [("x86-vnni", "uint8", True), ("x86", "uint8", True), ("arm", "int8", True), ("tensorrt", "int8", False)],
)
def test_each_target_has_its_formats(onnx_model: Get, apply: Any, target: str, activations: str, bias: bool) -> None:
    """x86 multiplies unsigned activations with signed weights, ARM signed ones; TensorRT wants symmetry and a float bias."""
    result = apply(onnx_model("cnn"), "static-int8", images(4, 8), target=target)
    found = formats_of(result.model.path)
    assert (found.activations, found.weights, found.bias) == (activations, "int8", bias)
    assert found.symmetric == (target == "tensorrt")
    zero_points = [
        array for name, array in weights_of(onnx.load(str(result.model.path))) if name.endswith("_zero_point")
    ]
    assert all(not array.any() for array in zero_points) == (target == "tensorrt")
    largest = max(
        int(np.abs(array.astype(int)).max())
        for name, array in weights_of(onnx.load(str(result.model.path)))
        if array.dtype == np.int8 and name.endswith("_quantized")
    )
    assert (largest <= 64) == (target == "x86")
    assert result.details["target"] == target


def test_the_default_target_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a target the recipe takes the processor's, and says it."""
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    assert step_from_dict({"use": "static-int8"}).to_dict()["target"] == "arm"
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    for flags, expected in ((frozenset({"avx_vnni"}), "x86-vnni"), (frozenset({"avx2"}), "x86")):
        monkeypatch.setattr(cpu, "cpu_flags", lambda flags=flags: flags)
        assert step_from_dict({"use": "static-int8"}).to_dict()["target"] == expected


@pytest.mark.parametrize(
    ("name", "replaced", "excluded"),
    [("cnn", {"Conv": 2, "Gemm": 1}, 0), ("bert", {"Gemm": 2, "MatMul": 12}, 4)],
)
def test_weighted_nodes_are_replaced_and_activation_products_left(
    onnx_model: Get, apply: Any, probes: dict[str, Any], name: str, replaced: dict[str, int], excluded: int
) -> None:
    """Every convolution and product with a weight is quantized; the two products of each attention layer are not."""
    result = apply(onnx_model(name), "static-int8", probes[name])
    assert result.details["nodes_replaced"] == replaced
    assert result.details["nodes_excluded"] == excluded
    assert count_nodes(onnx.load(str(result.model.path)))["DequantizeLinear"] > sum(replaced.values())


def test_excluded_layers_stay_in_float(onnx_model: Get, apply: Any, probes: dict[str, Any]) -> None:
    """Exactly the named layers read floating-point weights afterwards, a Gemm and a product among them."""
    exclude = ("bert.encoder.layer.0.attention.self.query", "classifier")
    result = apply(onnx_model("bert"), "static-int8", probes["bert"], exclude=exclude)
    everything = [layer.name for layer in quantizable_layers(onnx_model("bert").path)]
    assert {layer.name for layer in layers_of(onnx.load(str(result.model.path)))} == set(exclude)
    assert result.details["layers_excluded"] == list(exclude)
    assert result.details["layers_quantized"] == [each for each in everything if each not in exclude]


def test_an_unknown_layer_is_refused(onnx_model: Get, apply: Any) -> None:
    """A name that no layer has is an error of the config that names the nearest."""
    with pytest.raises(ConfigError, match=r"step 'static-int8' cannot exclude 'haed': .*; did you mean 'head'\?"):
        apply(onnx_model("mlp"), "static-int8", images(1, 1), exclude=("haed",))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_is_calibrated_on_prompts(
    onnx_model: Get, apply: Any, torch_model: Get, probes: dict[str, Any], name: str
) -> None:
    """Positions and an empty cache are added to the prompts; prefill and the steps after it answer nearly as before."""
    result = apply(onnx_model(name), "static-int8", probes[name])
    assert len(result.details["layers_quantized"]) == len(quantizable_layers(onnx_model(name).path))
    parity = reference_of(torch_model(name), probes[name]).verify_model(result.model, exact=False)
    assert parity.cosine > 0.9


def test_where_a_convolution_has_no_histogram_the_products_are_quantized(tmp_path: Path, apply: Any) -> None:
    """A convolution whose values are near the largest that there are stops histograms; the matrix product behind it is still quantized by them."""
    weights = {"k": np.zeros((1, 1, 1, 1), np.float32), "b": np.float32([3e38]), "w": np.ones((4, 2), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["c"], name="conv"),
        helper.make_node("Flatten", ["x"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="product"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 1, 2, 2]),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(tmp_path / "given.onnx"))
    given = OnnxModel(tmp_path / "given.onnx", Signature("classifier", (), ("y",)))
    data = ({"x": np.random.default_rng(0).standard_normal((64, 1, 2, 2)).astype(np.float32)},)
    result = apply(given, "static-int8", data, calibration="entropy")
    assert result.details["nodes_replaced"] == {"MatMul": 1}
    assert result.details["layers_quantized"] == ["product"]


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("name", ["cnn", "bert", "mlp"])
def test_answers_stay_near(
    onnx_model: Get, apply: Any, run_model: Any, probes: dict[str, Any], name: str, calibration: str
) -> None:
    """Calibrated by any method on batches of several shapes, the scores stay within a third of the largest.

    A processor without VNNI has seven bits for its weights, which this untrained model feels.
    """
    result = apply(onnx_model(name), "static-int8", more_like(probes[name]), calibration=calibration)
    for probe in probes[name]:
        expected = run_model(onnx_model(name), probe)
        assert np.abs(run_model(result.model, probe) - expected).max() < np.abs(expected).max() / 3


def test_minmax_takes_the_whole_range_of_all_batches(onnx_model: Get, apply: Any) -> None:
    """The input's scale is (max - min) / 255 over every calibration row, in however many batches."""
    data = images(9, 8)
    result = apply(onnx_model("cnn"), "static-int8", data, target="x86-vnni")
    everything = np.concatenate([batch["input"] for batch in data])
    assert formats_of(result.model.path).input_scale == pytest.approx(float(np.ptp(everything)) / 255, rel=1e-5)


def test_entropy_and_percentile_cut_the_tails(onnx_model: Get, apply: Any) -> None:
    """On heavy-tailed data both methods take a narrower range than minmax."""
    scales = {
        method: formats_of(
            apply(onnx_model("cnn"), "static-int8", images(16, 16), calibration=method).model.path
        ).input_scale
        for method in ("minmax", "entropy", "percentile")
    }
    assert scales["entropy"] < scales["minmax"]
    assert scales["percentile"] < scales["minmax"]


@pytest.mark.parametrize(("samples", "used"), [(1, 1), (10, 10), (16, 16), (1000, 32)])
def test_samples_bound_the_rows_that_are_used(onnx_model: Get, apply: Any, samples: int, used: int) -> None:
    """Exactly so many rows are used, from the front, the last batch cut; fewer where there are fewer."""
    data = images(4, 8)
    result = apply(onnx_model("cnn"), "static-int8", data, samples=samples, target="x86-vnni")
    assert result.details["samples"] == used
    rows = np.concatenate([batch["input"] for batch in data])[:used]
    low, high = min(float(rows.min()), 0.0), max(float(rows.max()), 0.0)
    assert formats_of(result.model.path).input_scale == pytest.approx((high - low) / 255, rel=1e-5)


def test_a_graph_of_fixed_batch_is_calibrated_on_whole_batches(
    table_graph: OnnxModel, apply: Any, tmp_path: Path
) -> None:
    """Of rows in batches of 8, 8 and 4, a graph that takes 8 at a time learns from the first 16."""
    graph = onnx.load(str(table_graph.path))
    for value in (graph.graph.input[0], graph.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(graph, str(tmp_path / "fixed.onnx"))
    random = np.random.default_rng(2)
    data = tuple({"features": random.standard_normal((rows, 6)).astype(np.float32)} for rows in (8, 8, 4))
    result = apply(OnnxModel(tmp_path / "fixed.onnx", read_signature(graph)), "static-int8", data)
    assert result.details["samples"] == 16
    assert len(result.details["layers_quantized"]) == 2


def test_inputs_take_the_graphs_types(onnx_model: Get, apply: Any) -> None:
    """Calibration data in double precision is given to the graph as it wants it."""
    data = tuple({"input": batch["input"].astype(np.float64)} for batch in images(2, 4))
    assert apply(onnx_model("cnn"), "static-int8", data).details["samples"] == 8


def test_without_calibration_data_the_key_is_named(onnx_model: Get, apply: Any) -> None:
    """The text says what is missing and where it is set."""
    with pytest.raises(ConfigError, match=r"static-int8 needs calibration data: set \[workload\] calibration"):
        apply(onnx_model("cnn"), "static-int8")


def test_a_torch_module_is_refused(torch_model: Get, apply: Any) -> None:
    """The technique works on ONNX graphs and says so."""
    with pytest.raises(BuildError, match="static-int8 quantizes ONNX graphs only"):
        apply(torch_model("mlp"), "static-int8", images(1, 1))


def test_calibration_data_that_does_not_fit_is_a_build_error(onnx_model: Get, apply: Any) -> None:
    """Data of a shape that the graph does not take ends in a sentence."""
    with pytest.raises(BuildError, match="static-int8: the quantizer refused the graph: "):
        apply(onnx_model("cnn"), "static-int8", ({"input": np.zeros((2, 3, 5, 5), np.float32)},))


def test_a_graph_without_weights_is_refused(tmp_path: Path, apply: Any) -> None:
    """Where nothing can be replaced the text says what could have been."""
    shape = ["n", 3]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x", "y"))
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="r")], "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(tmp_path / "given.onnx"))
    given = OnnxModel(tmp_path / "given.onnx", Signature("classifier", (), ("y",)))
    with pytest.raises(BuildError, match="static-int8 replaced no node; it can replace Conv, Gemm, MatMul"):
        apply(given, "static-int8", ({"x": np.ones((2, 3), np.float32)},))
