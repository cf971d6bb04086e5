"""What an ONNX file really is: nodes and weight bytes by data type, and whether that is the precision of its name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .errors import BuildError
from .onnx_files import bytes_of, count_nodes, is_parameter, is_small, nodes_of, weights_of
from .onnx_packed import PackedWeight, packed_weights

WEIGHTED_NODES = (
    "Attention",
    "Conv",
    "ConvTranspose",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "GRU",
    "LSTM",
    "MatMul",
)
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
_FACTORS = {
    "DynamicQuantizeMatMul": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "QGemm": (0, 3),
    "QLinearMatMul": (0, 3),
}
"""At which inputs of a matrix product its two factors stand."""
_FLOATS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_FOUR = 4
_ZERO_POINT = "_zero_point"
_TOLERATED = 4
"""Floating-point bytes a small weight, in weighted nodes, above which quantization did not fit the model: more FP32 weights than small."""


@dataclass(frozen=True)
class Census:
    """What was counted in a graph.

    Attributes:
        nodes: operators by type.
        weight_bytes: bytes of all constant tensors by data type; those of packed weights by the type of their numbers.
        parameters: learnt numbers, without a quantizer's scales and zero points.
        zeros: exact zeros among them.
        integer_nodes: nodes that compute in integers, fused Q/DQ pairs included, or from packed integer weights.
        left: weighted nodes by type that still compute in floating point.
        small_bytes: bytes of parameters of 8 bits or fewer.
        four_bit: how many parameters are stored in 4 bits or fewer.
        eight_bit: how many are stored in 8 bits.
        float_bytes: bytes of floating-point weights that go straight into weighted nodes.
    """

    nodes: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    parameters: int
    zeros: int
    integer_nodes: int
    left: Mapping[str, int]
    small_bytes: int
    four_bit: int
    eight_bit: int
    float_bytes: int

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the parameters."""
        return self.zeros / self.parameters if self.parameters else 0.0


def census_of(model: Any) -> Census:
    """Count nodes and weights of a graph."""
    nodes = count_nodes(model)
    weights = list(weights_of(model))
    packed = list(packed_weights(model))
    beside = {name for each in packed for name in (each.name, *each.helpers)}
    learnt = {name: array for name, array in weights if name not in beside and is_parameter(name, array)}
    zero_points = {name: array for name, array in weights if name.endswith(_ZERO_POINT)}
    small = {name: array for name, array in learnt.items() if is_small(array)}
    fused = _fused_nodes(model)
    widths = _numbers_by_width(small, packed)
    return Census(
        nodes=nodes,
        weight_bytes=_weight_bytes(weights, packed),
        parameters=sum(array.size for array in learnt.values()) + sum(each.numbers.size for each in packed),
        zeros=sum(_zeros(array, zero_points.get(_zero_point_of(name))) for name, array in learnt.items())
        + sum(each.zeros for each in packed),
        integer_nodes=sum(nodes.get(name, 0) for name in INTEGER_NODES) + sum(fused.values()),
        left={name: nodes[name] - fused[name] for name in WEIGHTED_NODES if nodes.get(name, 0) > fused[name]},
        small_bytes=sum(map(bytes_of, small.values())) + sum(each.packed_bytes for each in packed),
        four_bit=sum(count for bits, count in widths.items() if bits <= _FOUR),
        eight_bit=sum(count for bits, count in widths.items() if bits > _FOUR),
        float_bytes=_float_bytes(model, {name: bytes_of(array) for name, array in weights if not is_small(array)}),
    )


def _weight_bytes(weights: Iterable[tuple[str, NDArray[Any]]], packed: Sequence[PackedWeight]) -> dict[str, int]:
    """Bytes by data type: a packed tensor of bytes counts as what it holds."""
    held = {each.name: f"int{each.bits}" for each in packed}
    sizes: Counter[str] = Counter()
    for name, array in weights:
        sizes[held.get(name, array.dtype.name)] += bytes_of(array)
    return dict(sorted(sizes.items()))


def _numbers_by_width(small: Mapping[str, NDArray[Any]], packed: Sequence[PackedWeight]) -> Counter[int]:
    """How many small numbers are stored in how many bits."""
    widths: Counter[int] = Counter()
    for array in small.values():
        widths[int(array.dtype.name.removeprefix("u").removeprefix("int"))] += array.size
    for each in packed:
        widths[each.bits] += each.numbers.size
    return widths


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


def integer_activation_products(model: Any) -> tuple[str, ...]:
    """The integer matrix products neither factor of which is a weight, as attention has them, by name or output."""
    constants = {name for name, _ in weights_of(model)}
    sources = {node.output[0]: node.input[0] for node in nodes_of(model) if node.op_type == "DequantizeLinear"}
    found = []
    for node in (node for node in nodes_of(model) if node.op_type in _FACTORS):
        factors = [node.input[place] for place in _FACTORS[node.op_type]]
        is_integer = node.op_type in INTEGER_NODES or all(name in sources for name in factors)
        if is_integer and not any(sources.get(name, name) in constants for name in factors):
            found.append(node.name or node.output[0])
    return tuple(found)


def need_no_activation_products(model: Any, step: str) -> None:
    """Hold a quantized graph to its weights: products of two activations lose accuracy and were not asked for.

    Raises:
        BuildError: one of them was quantized too.
    """
    found = integer_activation_products(model)
    if found:
        raise BuildError(
            f"{step} quantized {len(found)} products of two activations ({found[0]}, ...), which it must leave in float; "
            "this file was made wrongly and is discarded: please report the graph"
        )


def mismatch(precision: str, census: Census) -> str:
    """Why a file is not what its precision says; empty where it is."""
    if precision in ("int8", "int4"):
        return _integer_mismatch(precision, census)
    if census.integer_nodes:
        return f"asked for {precision}, but {census.integer_nodes} nodes compute in integers"
    return _float_mismatch(precision, census)


def _float_mismatch(precision: str, census: Census) -> str:
    """Why the type of the name does not hold the most bytes of weights; FP64 counts as FP32, which a file without weights is, too."""
    sizes = Counter({"float32": 0, "integer": census.small_bytes})
    for name, size in census.weight_bytes.items():
        if "float" in name:
            sizes["float32" if name == "float64" else name] += size
    wanted = _FLOATS[precision]
    own = sizes.pop(wanted, 0)
    other, most = sizes.most_common(1)[0]
    if own > most or (own == most and precision == "fp32"):
        return ""
    return f"asked for {precision}, but {wanted} weights take {own} bytes and {other} ones {most}"


def _integer_mismatch(precision: str, census: Census) -> str:
    if not census.integer_nodes:
        left = ", ".join(f"{count} {name}" for name, count in census.left.items()) or "none that could be replaced"
        return f"asked for {precision}, but no node computes in integers; left in floating point: {left}"
    if not census.small_bytes:
        return f"asked for {precision}, but no weight is stored in 8 bits or fewer"
    found, other = (census.four_bit, "8") if precision == "int4" else (census.eight_bit, "4")
    missed = census.four_bit + census.eight_bit - found
    if missed > found:
        return f"asked for {precision}, but {missed} of {missed + found} small weights are stored in {other} bits"
    small = census.four_bit + census.eight_bit
    if census.float_bytes > _TOLERATED * small:
        left = ", ".join(f"{count} {name}" for name, count in census.left.items())
        return (
            f"asked for {precision}, but most weights of matrix products and convolutions are still floating point "
            f"({census.float_bytes} bytes against {small} weights in 8 bits or fewer; left: {left}): "
            "this technique does not fit the model"
        )
    return ""
