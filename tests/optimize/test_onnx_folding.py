"""Folding computes what weights alone decide, once, and changes no answer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.onnx_folding import fold_weights

Get = Callable[[str], Any]
WEIGHT = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)


def tied() -> Any:
    """An embedding whose weight, transposed, is also the output layer: 120,000 numbers, above any size limit."""
    nodes = [
        helper.make_node("Gather", ["w", "x"], ["e"], name="gather"),
        helper.make_node("Transpose", ["w"], ["t"], name="transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "t"], ["y"], name="product"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 300])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(WEIGHT, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def ran(model: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([1, 7, 299])})[0]


def test_transposes_are_folded_where_asked() -> None:
    """With transposes the tied weight is stored twice and no node is left of it; without, once."""
    once, twice = fold_weights(tied(), transposes=False), fold_weights(tied(), transposes=True)
    assert count_nodes(once) == {"Gather": 1, "MatMul": 1, "Transpose": 1}
    assert count_nodes(twice) == {"Gather": 1, "MatMul": 1}
    assert once.ByteSize() < 1.1 * WEIGHT.nbytes
    assert twice.ByteSize() > 2 * WEIGHT.nbytes
    expected = WEIGHT[[1, 7, 299]] @ WEIGHT.T
    for model in (once, twice):
        assert np.allclose(ran(model), expected, atol=1e-3)


def test_what_depends_on_an_input_stays() -> None:
    """A node that an input reaches is not folded away, and unused weights are dropped."""
    model = fold_weights(tied(), transposes=True)
    assert [value.name for value in model.graph.input] == ["x"]
    assert len(model.graph.initializer) == 2


def test_no_shape_note_names_a_weight(onnx_model: Get) -> None:
    """Notes on the shapes of weights go stale under quantization; none is left."""
    for name in ("bert", "lstm"):
        model = fold_weights(onnx.load(str(onnx_model(name).path)), transposes=True)
        weights = {tensor.name for tensor in model.graph.initializer}
        assert not weights & {value.name for value in model.graph.value_info}


def test_the_weights_of_an_exported_lstm_are_whole(onnx_model: Get) -> None:
    """An exported LSTM takes its weights as they lie in the file: torch cuts and joins them in the raw graph."""
    model = onnx.load(str(onnx_model("lstm").path))
    weights = {tensor.name for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "LSTM"]
    assert len(layers) == 2
    assert all(set(node.input[1:4]) <= weights for node in layers)
