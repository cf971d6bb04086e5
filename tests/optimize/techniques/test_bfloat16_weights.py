"""BF16 weights: rounded to the nearest, half the bytes, and still checked by a runtime without BF16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.model import OnnxModel, Signature
from weighbridge.optimize.onnx_files import read_valid, weights_of

Get = Callable[[str], Any]


def rounded(array: Any) -> Any:
    """The nearest FP32 numbers whose lower 16 bits are zero, ties to even: BF16 by its definition."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    up = bits + 0x7FFF + ((bits >> 16) & 1)
    return ((up >> 16) << 16).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", ["bert", "cnn", "lstm", "mlp"])
def test_weights_are_rounded_and_vectors_left(onnx_model: Get, apply: Any, name: str) -> None:
    """Each weight of two or more axes becomes its nearest BF16 number in two bytes; the others stay byte for byte."""
    before = dict(weights_of(onnx.load(str(onnx_model(name).path))))
    result = apply(onnx_model(name), "onnx-bf16-weights")
    after = dict(weights_of(read_valid(result.model.path)))
    large = {key for key, array in before.items() if array.dtype == np.float32 and array.ndim > 1}
    assert result.details == {"weights_converted": len(large)}
    for key, array in before.items():
        if key in large:
            assert after[f"{key}_bf16"].dtype.name == "bfloat16"
            assert np.array_equal(after[f"{key}_bf16"].astype(np.float32), rounded(array))
        else:
            assert np.array_equal(after[key], array)


def test_ties_go_to_the_even_number(tmp_path: Path, apply: Any) -> None:
    """1 + 2^-8 lies between 1 and 1 + 2^-7 and becomes 1; 1 + 3 * 2^-8 becomes 1 + 2^-6."""
    weight = np.float32([[1 + 2**-8, 1 + 3 * 2**-8]])
    result = apply(saved(tmp_path / "given.onnx", weight), "onnx-bf16-weights")
    found = dict(weights_of(onnx.load(str(result.model.path))))["w_bf16"]
    assert found.astype(np.float32).tolist() == [[1.0, 1 + 2**-6]]


@pytest.mark.parametrize("name", ["bert", "cnn", "lstm", "mlp"])
def test_answers_stay_near(onnx_model: Get, apply: Any, run_model: Any, probes: Any, name: str) -> None:
    """ONNX Runtime, which has no BF16 products, runs the graph; scores move by under a tenth of the largest."""
    result = apply(onnx_model(name), "onnx-bf16-weights")
    for probe in probes[name]:
        expected = run_model(onnx_model(name), probe)
        moved = np.abs(run_model(result.model, probe) - expected).max()
        assert 0 < moved < np.abs(expected).max() / 10


def saved(path: Path, weight: Any) -> OnnxModel:
    """A graph that multiplies its input with one weight."""
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["n", 1]), ("y", ["n", 2]))
    )
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g", inputs, outputs, [onnx.numpy_helper.from_array(weight, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return OnnxModel(path, Signature("classifier", (), ("y",)))


def test_a_graph_without_matrices_is_refused(tmp_path: Path, apply: Any) -> None:
    """Where there is nothing to convert the text says so."""
    with pytest.raises(BuildError, match="onnx-bf16-weights found no FP32 weight of two or more axes to convert"):
        apply(saved(tmp_path / "given.onnx", np.float32([1, 2])), "onnx-bf16-weights")


def test_a_torch_module_is_refused(torch_model: Get, apply: Any) -> None:
    """The technique works on ONNX graphs and names the one for modules."""
    with pytest.raises(
        BuildError, match="onnx-bf16-weights converts ONNX graphs; use half-precision for torch modules"
    ):
        apply(torch_model("mlp"), "onnx-bf16-weights")
