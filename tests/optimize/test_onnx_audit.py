"""Whether a file is what its name says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from weighbridge.optimize.model import OnnxModel, TorchModel
from weighbridge.optimize.onnx_audit import Census, census_of, mismatch
from weighbridge.optimize.quiet import quiet

FP32 = Census(
    nodes={"MatMul": 2},
    weight_bytes={"float32": 800},
    parameters=200,
    zeros=50,
    integer_nodes=0,
    left={"MatMul": 2},
    small_bytes=0,
    four_bit=0,
    eight_bit=0,
    float_bytes=800,
)
INT8 = replace(
    FP32, integer_nodes=2, left={}, small_bytes=200, eight_bit=200, float_bytes=0, weight_bytes={"int8": 200}
)
INT4 = replace(INT8, small_bytes=100, four_bit=200, eight_bit=0, weight_bytes={"int4": 100})
FP16 = replace(FP32, weight_bytes={"float16": 400, "float32": 8})


def stored(small: int = 0, **sizes: int) -> Census:
    """A graph that computes in floating point, with so many bytes of each type, of which `small` are learnt integers."""
    return replace(FP32, weight_bytes=sizes, small_bytes=small)


@pytest.mark.parametrize(
    ("precision", "census", "reason"),
    [
        ("fp32", FP32, ""),
        ("fp16", FP16, ""),
        ("int8", INT8, ""),
        ("fp32", INT8, "asked for fp32, but 2 nodes compute in integers"),
        ("fp32", FP16, "asked for fp32, but float32 weights take 8 bytes and float16 ones 400"),
        ("fp16", FP32, "asked for fp16, but float16 weights take 0 bytes and float32 ones 800"),
        ("fp16", INT8, "asked for fp16, but 2 nodes compute in integers"),
        (
            "fp32",
            stored(float32=8, bfloat16=400),
            "asked for fp32, but float32 weights take 8 bytes and bfloat16 ones 400",
        ),
        ("fp32", stored(float32=8, float8_e4m3fn=40), "but float32 weights take 8 bytes and float8_e4m3fn ones 40"),
        ("fp32", stored(24, float32=8, int8=24), "but float32 weights take 8 bytes and integer ones 24"),
        ("fp32", stored(24, float32=8, uint4=24), "but float32 weights take 8 bytes and integer ones 24"),
        ("fp32", stored(float32=400, bfloat16=400), ""),
        ("fp32", stored(float32=100, float64=300, float16=400), ""),
        ("fp32", stored(float32=8, int64=400), ""),
        ("fp32", stored(), ""),
        ("fp16", stored(float16=400, float32=400), "but float16 weights take 400 bytes and float32 ones 400"),
        ("fp16", stored(float16=400, bfloat16=401), "but float16 weights take 400 bytes and bfloat16 ones 401"),
        ("fp16", stored(401, float16=400, int8=401), "but float16 weights take 400 bytes and integer ones 401"),
        ("fp16", stored(float16=400, float32=8, float64=400), "and float32 ones 408"),
        ("fp16", stored(), "but float16 weights take 0 bytes"),
        ("bf16", stored(float32=8, bfloat16=400), ""),
        ("bf16", FP32, "asked for bf16, but bfloat16 weights take 0 bytes and float32 ones 800"),
        ("int8", FP32, "no node computes in integers; left in floating point: 2 MatMul"),
        ("int8", replace(FP32, left={}), "left in floating point: none that could be replaced"),
        ("int8", replace(INT8, small_bytes=0), "no weight is stored in 8 bits or fewer"),
        (
            "int8",
            replace(INT8, left={"LSTM": 1}, float_bytes=801),
            r"801 bytes against 200 weights in 8 bits .* left: 1 LSTM\)",
        ),
        ("int4", INT4, ""),
        ("int4", FP32, "asked for int4, but no node computes in integers; left in floating point: 2 MatMul"),
        ("int4", INT8, "asked for int4, but 200 of 200 small weights are stored in 8 bits"),
        ("int8", INT4, "asked for int8, but 200 of 200 small weights are stored in 4 bits"),
        ("int4", replace(INT4, eight_bit=200), ""),
        ("int4", replace(INT4, eight_bit=201), "asked for int4, but 201 of 401 small weights are stored in 8 bits"),
        ("int8", replace(INT8, four_bit=201), "asked for int8, but 201 of 401 small weights are stored in 4 bits"),
        ("int4", replace(INT4, float_bytes=800), ""),
        ("int4", replace(INT4, float_bytes=801), "asked for int4, but most weights .* are still floating point"),
        ("fp32", INT4, "asked for fp32, but 2 nodes compute in integers"),
    ],
)
def test_a_file_must_be_what_its_precision_says(precision: str, census: Census, reason: str) -> None:
    """Each precision asks for its own nodes and weights, and a refusal says what was found instead."""
    import re

    found = mismatch(precision, census)
    assert bool(found) == bool(reason)
    assert re.search(reason, found)


def test_sparsity_is_the_share_of_zeros() -> None:
    """50 zeros among 200 parameters are a sparsity of a quarter; without parameters it is zero."""
    assert FP32.sparsity == 0.25
    assert replace(FP32, parameters=0, zeros=0).sparsity == 0.0


@pytest.mark.parametrize("name", ["bert", "cnn", "lstm", "mlp"])
def test_an_export_has_the_parameters_of_its_module(
    torch_model: Callable[[str], TorchModel], onnx_model: Callable[[str], OnnxModel], name: str
) -> None:
    """Counting in the file gives the number of parameters that torch counts, and an FP32 file passes as one."""
    expected = sum(parameter.numel() for parameter in torch_model(name).module.parameters())
    census = census_of(onnx.load(onnx_model(name).path))
    assert census.parameters == expected
    assert census.weight_bytes["float32"] >= 4 * expected
    assert mismatch("fp32", census) == ""
    assert census.integer_nodes == 0


def test_a_tied_embedding_counts_once(
    torch_model: Callable[[str], TorchModel], onnx_model: Callable[[str], OnnxModel]
) -> None:
    """A GPT-2's output layer is its embedding: torch and the exported file count it once."""
    expected = sum(parameter.numel() for parameter in torch_model("gpt2").module.parameters())
    assert census_of(onnx.load(onnx_model("gpt2").path)).parameters == expected


def test_zeros_are_counted_exactly() -> None:
    """Three zeros among six weights are seen."""
    weight = np.array([[0, 1], [2, 0], [0, 3]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    census = census_of(helper.make_model(graph))
    assert (census.parameters, census.zeros) == (6, 3)


@pytest.mark.parametrize(
    ("zero_point", "expected"),
    [(np.uint8(0), 2), (np.uint8(7), 3), (np.uint8([7, 0, 0]), 4), (np.uint8([0, 7]), 2), (None, 2)],
)
def test_a_quantized_zero_is_the_zero_point(zero_point: Any, expected: int) -> None:
    """The numbers of a quantized weight that stand for zero are those equal to the zero point, also by channel."""
    weight = np.array([[7, 7], [0, 1], [7, 0]], np.uint8)
    weights = {"w_quantized": weight} | ({} if zero_point is None else {"w_zero_point": np.asarray(zero_point)})
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w_quantized"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [3, 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    census = census_of(helper.make_model(graph))
    assert (census.parameters, census.zeros) == (6, expected)


def test_a_dynamically_quantized_file_passes_as_int8_only(
    onnx_model: Callable[[str], OnnxModel], tmp_path: Path
) -> None:
    """ONNX Runtime's own quantizer leaves integer nodes and int8 weights; the same parameters are counted."""
    source = onnx_model("mlp").path
    with quiet():
        quantize_dynamic(str(source), str(tmp_path / "q.onnx"), weight_type=QuantType.QInt8)
    census = census_of(onnx.load(tmp_path / "q.onnx"))
    assert census.integer_nodes == 2
    assert census.left == {}
    assert census.small_bytes == 6 * 16 + 16 * 4
    assert census.parameters == census_of(onnx.load(source)).parameters
    assert [mismatch(name, census) == "" for name in ("int8", "fp32", "fp16")] == [True, False, False]


def quantized_pairs(*, activations: bool) -> Any:
    """x -> [Q -> DQ] -> Gemm with a dequantized int8 weight."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero_point"], ["w_float"]),
        helper.make_node("Gemm", ["x_float" if activations else "x", "w_float"], ["y"]),
    ]
    if activations:
        pair = [
            helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero_point"], ["x_small"]),
            helper.make_node("DequantizeLinear", ["x_small", "x_scale", "x_zero_point"], ["x_float"]),
        ]
        nodes = [*pair, *nodes]
    weights = {
        "w": np.ones((3, 2), np.int8),
        "w_scale": np.float32(0.1),
        "w_zero_point": np.int8(0),
        "x_scale": np.float32(0.1),
        "x_zero_point": np.uint8(0),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph)


def test_quantized_pairs_around_a_product_are_integer_compute() -> None:
    """A Gemm both of whose inputs come from DequantizeLinear counts as integer; one with only its weight does not."""
    both, weight_only = (census_of(quantized_pairs(activations=activations)) for activations in (True, False))
    assert (both.integer_nodes, both.left, mismatch("int8", both)) == (1, {}, "")
    assert (weight_only.integer_nodes, weight_only.left) == (0, {"Gemm": 1})
    assert "no node computes in integers; left in floating point: 1 Gemm" in mismatch("int8", weight_only)
