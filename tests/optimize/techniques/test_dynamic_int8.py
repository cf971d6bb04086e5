"""Dynamic INT8 replaces what it should in every kind of graph, and answers nearly as before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.errors import BuildError, ConfigError
from weighbridge.optimize.model import OnnxModel, Signature
from weighbridge.optimize.onnx_files import count_nodes, weights_of
from weighbridge.optimize.onnx_layers import layers_of, quantizable_layers
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import dynamic_int8

Get = Callable[[str], Any]


def graph(tmp_path: Path, nodes: list[Any], weights: dict[str, Any], shape: list[Any]) -> OnnxModel:
    """A graph from `x` to `y` of the given nodes and weights."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, initializers), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    onnx.save(model, str(tmp_path / "given.onnx"))
    return OnnxModel(tmp_path / "given.onnx", Signature("classifier", (), ("y",)))


@pytest.mark.parametrize(
    ("name", "replaced", "left", "embeddings"),
    [
        ("bert", {"MatMul": 14}, {"MatMul": 4}, 3),
        ("gpt2", {"MatMul": 9}, {"Attention": 2}, 2),
        ("lstm", {"MatMul": 1, "LSTM": 2}, {}, 1),
        ("mlp", {"MatMul": 2}, {}, 0),
        ("cnn", {"MatMul": 1}, {"Conv": 2}, 0),
    ],
)
def test_every_product_with_a_weight_is_replaced(
    onnx_model: Get, apply: Any, name: str, replaced: dict[str, int], left: dict[str, int], embeddings: int
) -> None:
    """Layers counted by hand: 2 x (4 + 2) + 2 in BERT, 2 x 4 + 1 in GPT-2; products of activations are left."""
    result = apply(onnx_model(name), "dynamic-int8")
    details = dict(result.details)
    assert details.pop("layers_quantized") == [
        layer.name for layer in quantizable_layers(onnx_model(name).path) if layer.op_type not in left or name != "cnn"
    ]
    expected = {"nodes_replaced": replaced, "nodes_left": left, "embeddings": embeddings, "layers_excluded": []}
    assert details == expected
    nodes = count_nodes(onnx.load(str(result.model.path)))
    assert nodes.get("MatMulInteger", 0) == replaced["MatMul"]
    assert nodes.get("DynamicQuantizeLSTM", 0) == replaced.get("LSTM", 0)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", ["bert", "lstm", "mlp", "cnn"])
def test_answers_stay_near(
    onnx_model: Get, apply: Any, run_model: Any, probes: dict[str, Any], name: str, per_channel: bool
) -> None:
    """At every shape the scores stay within two tenths of the largest, with one scale or one for each channel."""
    result = apply(onnx_model(name), "dynamic-int8", per_channel=per_channel)
    for probe in probes[name]:
        expected, found = run_model(onnx_model(name), probe), run_model(result.model, probe)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "exclude"),
    [
        ("bert", ("bert.encoder.layer.1.output.dense", "bert.pooler.dense")),
        ("gpt2", ("transformer.h.0.attn.c_attn",)),
        ("lstm", ("recurrent",)),
    ],
)
def test_excluded_layers_stay_in_float(onnx_model: Get, apply: Any, name: str, exclude: tuple[str, ...]) -> None:
    """Exactly the named layers are left, under their names, a Gemm that became a product too; all others are replaced."""
    result = apply(onnx_model(name), "dynamic-int8", exclude=exclude)
    everything = [layer.name for layer in quantizable_layers(onnx_model(name).path)]
    assert {layer.name for layer in layers_of(onnx.load(str(result.model.path)))} == set(exclude)
    assert result.details["layers_excluded"] == list(exclude)
    assert result.details["layers_quantized"] == [each for each in everything if each not in exclude]


def test_a_returned_layer_brings_the_answers_nearer(
    onnx_model: Get, apply: Any, run_model: Any, probes: dict[str, Any]
) -> None:
    """With every layer but one in float the error is smaller than with all of them in INT8."""
    layers = [layer.name for layer in quantizable_layers(onnx_model("bert").path)]

    def error(**options: Any) -> float:
        model = apply(onnx_model("bert"), "dynamic-int8", embeddings=False, **options).model
        return sum(
            float(np.abs(run_model(model, probe) - run_model(onnx_model("bert"), probe)).mean())
            for probe in probes["bert"]
        )

    assert error(exclude=layers[:-1]) < error() / 2


def test_an_unknown_layer_is_refused(onnx_model: Get, apply: Any) -> None:
    """A name that no layer has is an error of the config that names the nearest."""
    with pytest.raises(ConfigError, match=r"step 'dynamic-int8' cannot exclude 'haed': .*; did you mean 'head'\?"):
        apply(onnx_model("mlp"), "dynamic-int8", exclude=("haed",))


def test_excluding_everything_is_no_variant(onnx_model: Get, apply: Any) -> None:
    """Where every layer is excluded nothing is replaced, and that is said."""
    with pytest.raises(BuildError, match="dynamic-int8 replaced no node; the graph has .*; excluded: 2"):
        apply(onnx_model("mlp"), "dynamic-int8", exclude=("hidden", "head"))


def test_a_weight_that_two_layers_share_is_right_in_both(tmp_path: Path, apply: Any, run_model: Any) -> None:
    """Two transposed Gemm of one weight both stay right: the quantizer's own replacement would transpose it twice."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="first", transB=1),
        helper.make_node("Gemm", ["a", "w"], ["y"], name="second", transB=1),
    ]
    model = graph(tmp_path, nodes, {"w": random.standard_normal((6, 6)).astype(np.float32)}, ["n", 6])
    batch = {"x": random.standard_normal((3, 6)).astype(np.float32)}
    expected = run_model(model, batch)
    result = apply(model, "dynamic-int8")
    assert result.details["layers_quantized"] == ["first", "second"]
    assert np.abs(run_model(result.model, batch) - expected).max() < 0.05 * np.abs(expected).max()


def test_a_convolutional_graph_gets_unsigned_weights(tmp_path: Path, apply: Any, run_model: Any) -> None:
    """Where convolutions hold most of the weights they are replaced, with UINT8 weights: INT8 ones are three times slower."""
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((8, 1, 3, 3)).astype(np.float32)}
    model = graph(tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"], name="c")], weights, ["n", 1, 8, 8])
    result = apply(model, "dynamic-int8")
    assert result.details == {
        "nodes_replaced": {"Conv": 1},
        "nodes_left": {},
        "embeddings": 0,
        "layers_quantized": ["c"],
        "layers_excluded": [],
    }
    kinds = {array.dtype.name for _, array in weights_of(onnx.load(str(result.model.path))) if array.ndim == 4}
    assert kinds == {"uint8"}
    batch = {"x": random.standard_normal((3, 1, 8, 8)).astype(np.float32)}
    expected = run_model(model, batch)
    assert np.abs(run_model(result.model, batch) - expected).max() < 0.05 * np.abs(expected).max()


def test_a_weight_that_is_transposed_in_the_graph_is_quantized_too(tmp_path: Path, apply: Any) -> None:
    """A product whose weight comes through a Transpose (a tied output layer) is replaced."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], name="t", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="m"),
    ]
    weights = {"w": np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)}
    result = apply(graph(tmp_path, nodes, weights, ["n", 6]), "dynamic-int8")
    assert result.details["nodes_replaced"] == {"MatMul": 1}


def test_a_graph_without_weights_is_refused(tmp_path: Path, apply: Any) -> None:
    """Where nothing can be replaced the text says so and lists what the graph has."""
    model = graph(tmp_path, [helper.make_node("Relu", ["x"], ["y"], name="r")], {}, ["n", 3])
    with pytest.raises(BuildError, match="dynamic-int8 replaced no node; the graph has 1 Relu"):
        apply(model, "dynamic-int8")


def test_a_torch_module_is_refused(torch_model: Get, apply: Any) -> None:
    """The technique works on ONNX graphs and says so."""
    with pytest.raises(BuildError, match="dynamic-int8 quantizes ONNX graphs only"):
        apply(torch_model("mlp"), "dynamic-int8")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, apply: Any) -> None:
    """What the quantizer cannot read ends in a sentence, not in its traceback."""
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(BuildError, match="dynamic-int8: the quantizer refused the graph: "):
        apply(OnnxModel(tmp_path / "bad.onnx", Signature("classifier", (), ("y",))), "dynamic-int8")


def test_seven_bits_are_the_default_where_eight_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors of x86 without VNNI get the reduced range, others the whole one, and the recipe says which."""
    for target, expected in {"x86": True, "x86-vnni": False, "arm": False}.items():
        monkeypatch.setattr(dynamic_int8, "int8_target", lambda target=target: target)
        assert step_from_dict({"use": "dynamic-int8"}).to_dict()["reduce_range"] is expected


def test_the_reduced_range_uses_seven_bits(onnx_model: Get, apply: Any) -> None:
    """With a reduced range no weight is above 64 in magnitude; with the whole one some are."""
    for reduce_range, limit in ((True, 64), (False, 128)):
        result = apply(onnx_model("mlp"), "dynamic-int8", reduce_range=reduce_range)
        weights = weights_of(onnx.load(str(result.model.path)))
        largest = max(
            int(np.abs(array.astype(int)).max()) for _, array in weights if array.dtype == np.int8 and array.ndim == 2
        )
        assert limit / 2 < largest <= limit


def test_embeddings_can_be_kept_in_fp32(onnx_model: Get, apply: Any) -> None:
    """Without embeddings the looked-up weights stay FP32, and the file is larger by about three bytes a number."""
    small = apply(onnx_model("bert"), "dynamic-int8")
    large = apply(onnx_model("bert"), "dynamic-int8", embeddings=False)
    assert large.details["embeddings"] == 0
    assert large.details["nodes_replaced"] == small.details["nodes_replaced"]
    numbers = (100 + 64 + 2) * 32
    saved = large.model.path.stat().st_size - small.model.path.stat().st_size
    assert 2.5 * numbers < saved < 3 * numbers
