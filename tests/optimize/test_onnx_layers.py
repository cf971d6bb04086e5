"""Layers have names that last: of their modules in our exports, unique and stable in any other file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.errors import ConfigError
from weighbridge.optimize.onnx_layers import (
    Layer,
    layer_details,
    layers_of,
    name_by_modules,
    need_layers,
    quantizable_layers,
)

Get = Callable[[str], Any]


def chain(names: list[str], op_type: str = "MatMul", scopes: tuple[str, ...] = ()) -> Any:
    """A graph of products in a row, each with a 2 x 2 weight, of the given node names."""
    values = ["x", *(f"v{place}" for place in range(len(names)))]
    nodes = [
        helper.make_node(op_type, [values[place], f"w{place}"], [values[place + 1]], name=name)
        for place, name in enumerate(names)
    ]
    for node, scope in zip(nodes, scopes, strict=False):
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scope)
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info(values[-1], TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32) + place, f"w{place}") for place in range(len(names))],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", [Layer("hidden", "Gemm", 6 * 16 + 16), Layer("head", "Gemm", 16 * 4 + 4)]),
        ("cnn", [Layer("0", "Conv", 9 * 4 + 4), Layer("2", "Conv", 9 * 4 * 8 + 8), Layer("5", "Gemm", 72 * 5 + 5)]),
        (
            "lstm",
            [
                Layer("recurrent", "LSTM", 4 * 32 * (16 + 32 + 2)),
                Layer("recurrent#2", "LSTM", 4 * 32 * (32 + 32 + 2)),
                Layer("head", "Gemm", 32 * 3 + 3),
            ],
        ),
    ],
)
def test_layers_of_an_export_carry_their_modules_names(onnx_model: Get, name: str, expected: list[Layer]) -> None:
    """In graph order, with the number of floats that each reads; a module of two layers is numbered."""
    assert list(quantizable_layers(onnx_model(name).path)) == expected


def test_transformers_layers_carry_their_modules_names(onnx_model: Get) -> None:
    """BERT's four projections and two feed-forward layers a block, then its head; products of activations are none."""
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    expected = [
        f"bert.encoder.layer.{n}.{part}" for n in (0, 1) for part in (*parts, "intermediate.dense", "output.dense")
    ]
    found = [layer.name for layer in quantizable_layers(onnx_model("bert").path)]
    assert found == [*expected, "bert.pooler.dense", "classifier"]


def test_a_decoders_layers_leave_out_the_wrapper_and_keep_the_tied_head(onnx_model: Get) -> None:
    """GPT-2's names begin at the module itself, and its output layer, which comes through a Transpose, is one of them."""
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    found = [layer.name for layer in quantizable_layers(onnx_model("gpt2").path)]
    assert found == [*(f"transformer.h.{n}.{part}" for n in (0, 1) for part in parts), "lm_head"]


def test_every_node_of_an_export_has_a_name_of_its_own(onnx_model: Get) -> None:
    """Products of activations among them: they are excluded by name."""
    for name in ("bert", "gpt2", "lstm"):
        names = [node.name for node in onnx.load(str(onnx_model(name).path)).graph.node]
        assert all(names)
        assert len(set(names)) == len(names)


def test_nodes_without_a_name_are_called_by_their_output(tmp_path: Path) -> None:
    """A foreign file keeps its names; what has none, or another's, gets one that stays the same from reading to reading."""
    onnx.save(chain(["a", "", "a"]), str(tmp_path / "m.onnx"))
    assert [layer.name for layer in quantizable_layers(tmp_path / "m.onnx")] == ["a", "v1", "a#2"]
    assert quantizable_layers(tmp_path / "m.onnx") == quantizable_layers(tmp_path / "m.onnx")


def test_what_holds_no_floating_point_weight_is_no_layer() -> None:
    """A product of two activations, one with an integer weight, and an operator of another kind are left out."""
    model = chain(["float", "integer"])
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.eye(2, dtype=np.int8), "w1"))
    model.graph.node.append(helper.make_node("MatMul", ["v0", "v0"], ["z"], name="product"))
    model.graph.node.append(helper.make_node("Add", ["v0", "w0"], ["s"], name="sum"))
    assert layers_of(model) == (Layer("float", "MatMul", 4),)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("['', 'encoder', 'encoder.0', 'linear']", "encoder.0"),
        ("['', 'inner', 'inner.head', 'linear']", "head"),
        ("['', 'matmul']", "node"),
        ("['matmul']", "node"),
    ],
)
def test_the_exporters_note_names_the_module(scope: str, expected: str) -> None:
    """The last scope but the call's own; a call of the root module keeps the name that its node had."""
    model = chain(["node"], scopes=(scope,))
    name_by_modules(model, wrapper="inner")
    assert model.graph.node[0].name == expected


def test_the_legacy_exporters_name_holds_the_module() -> None:
    """`/encoder/layer.0/query/MatMul` is the product of encoder.layer.0.query."""
    model = chain(["/encoder/layer.0/query/MatMul", "/MatMul"])
    name_by_modules(model, wrapper="inner")
    assert [node.name for node in model.graph.node] == ["encoder.layer.0.query", "/MatMul"]


@given(st.lists(st.sampled_from(["", "a", "b", "a#2", "v0", "v1"]), min_size=1, max_size=6))
def test_names_are_always_unique(names: list[str]) -> None:
    """Whatever names the nodes had, afterwards each has its own, and the first with a name keeps it."""
    model = chain(names)
    name_by_modules(model, wrapper="inner")
    given_names = [node.name for node in model.graph.node]
    assert len(set(given_names)) == len(names)
    assert given_names[0] == (names[0] or "v0")


def test_an_unknown_layer_names_the_nearest() -> None:
    """The text says what was given, what is near, how many there are, and where all are listed."""
    layers = [Layer(f"encoder.{number}.query", "MatMul", 4) for number in range(5)]
    need_layers(("encoder.3.query",), layers, "dynamic-int8")
    with pytest.raises(ConfigError) as raised:
        need_layers(("encoder.3.querry",), layers, "dynamic-int8")
    assert str(raised.value) == (
        "step 'dynamic-int8' cannot exclude 'encoder.3.querry': the model has no such layer; did you mean "
        "'encoder.3.query'? It has 5 (encoder.0.query, encoder.1.query, encoder.2.query, ...); the manifest of the variant "
        "without exclude lists them under layers_quantized"
    )
    with pytest.raises(
        ConfigError, match=r"cannot exclude 'zzz': the model has no such layer\. It has 0 \(none\); the"
    ):
        need_layers(("zzz",), [], "dynamic-int8")


def test_the_record_tells_quantized_and_excluded_apart() -> None:
    """A layer that is left in float without having been excluded is in neither list."""
    before = [Layer(name, "MatMul", 4) for name in ("a", "b", "c")]
    details = layer_details(before, before[1:], ("c",))
    assert details == {"layers_quantized": ["a"], "layers_excluded": ["c"]}
