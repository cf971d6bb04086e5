"""What an ONNX file really is: nodes and weight bytes by data type, and whether that is the precision of its name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .onnx_files import bytes_of, count_nodes, is_parameter, is_small, nodes_of, weights_of

WEIGHTED_NODES = ("Attention", "Conv", "ConvTranspose", "Gemm", "GRU", "LSTM", "MatMul")
"""Nodes that hold nearly all weights and work of a model: those that quantization replaces."""
INTEGER_NODES = (
    "ConvInteger",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QAttention",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
)
_ZERO_POINT = "_zero_point"
_TOLERATED = 4
"""Floating-point bytes a byte of small weights, in weighted nodes, above which quantization did not fit the model."""


@dataclass(frozen=True)
class Census:
    """What was counted in a graph.

    Attributes:
        nodes: operators by type.
        weight_bytes: bytes of all constant tensors by data type.
        parameters: learnt numbers, without a quantizer's scales and zero points.
        zeros: exact zeros among them.
        integer_nodes: nodes that compute in integers, fused Q/DQ pairs included.
        left: weighted nodes by type that still compute in floating point.
        small_bytes: bytes of parameters of 8 bits or fewer.
        float_bytes: bytes of floating-point weights that go straight into weighted nodes.
    """

    nodes: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    parameters: int
    zeros: int
    integer_nodes: int
    left: Mapping[str, int]
    small_bytes: int
    float_bytes: int

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the parameters."""
        return self.zeros / self.parameters if self.parameters else 0.0


def census_of(model: Any) -> Census:
    """Count nodes and weights of a graph."""
    nodes = count_nodes(model)
    weights = list(weights_of(model))
    learnt = {name: array for name, array in weights if is_parameter(name, array)}
    zero_points = {name: array for name, array in weights if name.endswith(_ZERO_POINT)}
    sizes: Counter[str] = Counter()
    for _, array in weights:
        sizes[array.dtype.name] += bytes_of(array)
    fused = _fused_nodes(model)
    return Census(
        nodes=nodes,
        weight_bytes=dict(sorted(sizes.items())),
        parameters=sum(array.size for array in learnt.values()),
        zeros=sum(_zeros(array, zero_points.get(_zero_point_of(name))) for name, array in learnt.items()),
        integer_nodes=sum(nodes.get(name, 0) for name in INTEGER_NODES) + sum(fused.values()),
        left={name: nodes[name] - fused[name] for name in WEIGHTED_NODES if nodes.get(name, 0) > fused[name]},
        small_bytes=sum(bytes_of(array) for array in learnt.values() if is_small(array)),
        float_bytes=_float_bytes(model, {name: bytes_of(array) for name, array in weights if not is_small(array)}),
    )


def _zero_point_of(name: str) -> str:
    """The name that ONNX Runtime's quantizer gives to the zero point of a weight."""
    return name.removesuffix("_quantized") + _ZERO_POINT


def _zeros(array: NDArray[Any], zero_point: NDArray[Any] | None) -> int:
    """How many numbers stand for exactly zero: those equal to the zero point of their tensor or channel."""
    if zero_point is None or not zero_point.any():
        return int((array == 0).sum())
    if zero_point.size > 1 and len(zero_point) == array.shape[0]:
        return int((array == zero_point.reshape(-1, *[1] * (array.ndim - 1))).sum())
    return int((array == zero_point).sum())


def _fused_nodes(model: Any) -> Counter[str]:
    """Weighted nodes whose first two inputs both come from DequantizeLinear: runtimes fuse them into integer ones."""
    dequantized = {output for node in nodes_of(model) if node.op_type == "DequantizeLinear" for output in node.output}
    return Counter(
        node.op_type
        for node in nodes_of(model)
        if node.op_type in WEIGHTED_NODES and len(node.input) > 1 and set(node.input[:2]) <= dequantized
    )


def _float_bytes(model: Any, sizes: Mapping[str, int]) -> int:
    names = {name for node in nodes_of(model) if node.op_type in WEIGHTED_NODES for name in node.input[1:]}
    return sum(sizes.get(name, 0) for name in names)


def mismatch(precision: str, census: Census) -> str:
    """Why a file is not what its precision says; empty where it is."""
    if precision in ("int8", "int4"):
        return _integer_mismatch(precision, census)
    if census.integer_nodes:
        return f"asked for {precision}, but {census.integer_nodes} nodes compute in integers"
    halves, floats = (census.weight_bytes.get(name, 0) for name in ("float16", "float32"))
    found = f"float32 weights take {floats} bytes and float16 ones {halves}"
    if precision == "fp16" and halves <= floats:
        return f"asked for fp16, but {found}"
    if precision == "fp32" and halves > floats:
        return f"asked for fp32, but {found}"
    return ""


def _integer_mismatch(precision: str, census: Census) -> str:
    if not census.integer_nodes:
        left = ", ".join(f"{count} {name}" for name, count in census.left.items()) or "none that could be replaced"
        return f"asked for {precision}, but no node computes in integers; left in floating point: {left}"
    if not census.small_bytes:
        return f"asked for {precision}, but no weight is stored in 8 bits or fewer"
    if precision == "int4" and not any(census.weight_bytes.get(name) for name in ("int4", "uint4")):
        return _four_bit_mismatch(census)
    if census.float_bytes > _TOLERATED * census.small_bytes:
        left = ", ".join(f"{count} {name}" for name, count in census.left.items())
        return (
            f"asked for {precision}, but most weights of matrix products and convolutions are still floating point "
            f"({census.float_bytes} bytes against {census.small_bytes} in 8 bits or fewer; left: {left}): "
            "this technique does not fit the model"
        )
    return ""


def _four_bit_mismatch(census: Census) -> str:
    """MatMulNBits packs its weights in bytes; without it, 8-bit weights are not 4-bit ones."""
    return "" if census.nodes.get("MatMulNBits") else "asked for int4, but the weights are stored in 8 bits"


def precision_of(census: Census) -> str:
    """The precision that a file shows of itself: int8, fp16 or fp32."""
    return next((name for name in ("int8", "fp16") if not mismatch(name, census)), "fp32")
