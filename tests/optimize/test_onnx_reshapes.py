"""Reshapes that only fold positions together for a product, or change nothing, go; all others stay."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.onnx_reshapes import drop_reshapes

WEIGHT = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
BIAS = np.arange(6, dtype=np.float32)
X = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
FOLDED, UNFOLDED = [-1, 4], [2, -1, 6]


def graph(
    nodes: list[Any], outputs: dict[str, list[Any]], notes: dict[str, list[Any]], shapes: dict[str, list[int]]
) -> Any:
    """A model of x (batch, length, 4) with the weight, the bias, notes of dimensions, and constant shapes."""

    def value(name: str, dims: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    constants = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")]
    constants += [numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items()]
    made = helper.make_graph(
        nodes,
        "g",
        [value("x", ["batch", "length", 4])],
        [value(name, dims) for name, dims in outputs.items()],
        constants,
        value_info=[value(name, dims) for name, dims in notes.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def folded_product(bias: list[str], after: list[Any]) -> Any:
    """Reshape, Gemm, Reshape, Relu; `after` are the dimensions noted of the unfolded product, none where it is empty."""
    nodes = [
        helper.make_node("Reshape", ["x", "folded"], ["rows"]),
        helper.make_node("Gemm", ["rows", "w", *bias], ["product"], name="layer"),
        helper.make_node("Reshape", ["product", "unfolded"], ["apart"]),
        helper.make_node("Relu", ["apart"], ["y"]),
    ]
    notes = {"rows": ["batch*length", 4], "product": ["batch*length", 6]} | ({"apart": after} if after else {})
    return graph(nodes, {"y": ["batch", "length", 6]}, notes, {"folded": FOLDED, "unfolded": UNFOLDED})


def answers(model: Any, folder: Path) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / "m.onnx"))
    found: NDArray[np.float32] = onnxruntime.InferenceSession(str(folder / "m.onnx")).run(None, {"x": X})[0]
    return found


@pytest.mark.parametrize("bias", [[], ["b"]])
def test_a_product_takes_its_input_unfolded(tmp_path: Path, bias: list[str]) -> None:
    """Reshape, Gemm, Reshape becomes MatMul, and Add where there is a bias, of the same name and the same answers."""
    model = folded_product(bias, ["batch", "length", 6])
    before = answers(model, tmp_path)
    drop_reshapes(model)
    assert count_nodes(model) == {"MatMul": 1, "Relu": 1} | ({"Add": 1} if bias else {})
    assert model.graph.node[0].name == "layer"
    np.testing.assert_allclose(answers(model, tmp_path), before, rtol=1e-6)
    np.testing.assert_allclose(before, np.maximum(X @ WEIGHT + (BIAS if bias else 0), 0), rtol=1e-5)


@pytest.mark.parametrize("after", [["length", "batch", 6], [], ["batch*length", 1, 6]])
def test_other_dimensions_stay_folded(tmp_path: Path, after: list[Any]) -> None:
    """A product whose positions are apart in another way afterwards, or in one that nothing notes, keeps its reshapes."""
    model = folded_product(["b"], after)
    before = None if after else answers(model, tmp_path)
    drop_reshapes(model)
    assert count_nodes(model) == {"Reshape": 2, "MatMul": 1, "Add": 1, "Relu": 1}
    if before is not None:
        np.testing.assert_allclose(answers(model, tmp_path), before, rtol=1e-6)


def test_a_product_that_is_read_folded_too_stays(tmp_path: Path) -> None:
    """Where something else reads the folded product, it stays as it is."""
    model = folded_product(["b"], ["batch", "length", 6])
    model.graph.node.append(helper.make_node("Relu", ["product"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["rows", 6]))
    before = answers(model, tmp_path)
    drop_reshapes(model)
    assert count_nodes(model)["Reshape"] == 2
    np.testing.assert_allclose(answers(model, tmp_path), before, rtol=1e-6)


def test_a_reshape_there_and_back_goes(tmp_path: Path) -> None:
    """What is split into heads and joined again is what it was; a reshape to other dimensions stays, and so does an output."""
    nodes = [
        helper.make_node("Reshape", ["x", "heads"], ["split"]),
        helper.make_node("Reshape", ["split", "joined"], ["back"]),
        helper.make_node("Relu", ["back"], ["r"]),
        helper.make_node("Reshape", ["r", "joined"], ["y"]),
    ]
    dims = ["batch", "length", 4]
    notes = {"split": ["batch", "length", 2, 2], "back": dims, "r": dims}
    model = graph(nodes, {"y": dims}, notes, {"heads": [2, -1, 2, 2], "joined": [2, -1, 4]})
    before = answers(model, tmp_path)
    drop_reshapes(model)
    assert [(node.op_type, node.input[0]) for node in model.graph.node] == [("Relu", "x"), ("Reshape", "r")]
    np.testing.assert_array_equal(answers(model, tmp_path), before)
