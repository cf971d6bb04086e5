"""What an OpenVINO model really is: operators and weight bytes by data type, and the precision that its layers ran in."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .onnx_files import is_parameter

_NO_OPERATORS = ("Constant", "Parameter", "Result")
_WEIGHTED_OPERATORS = (
    "Convolution",
    "ConvolutionBackpropData",
    "GroupConvolution",
    "GRUSequence",
    "LSTMSequence",
    "MatMul",
)
_WEIGHTED_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq")
"""Layers, as the CPU plugin calls them, that do nearly all the work of a model: their precision is the model's."""
_SMALL = ("i8", "u8", "i4", "u4")
_QUANTIZER_PREFIXES = ("scale_", "zero_point_")
"""The names that NNCF gives to a quantizer's constants; ONNX Runtime's end in the same words (see `is_parameter`)."""
_TOLERATED = 4
"""Floating-point bytes a byte of small weights, in weighted operators, above which quantization did not fit the model."""
_SHORT = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


@dataclass(frozen=True)
class IrCensus:
    """What was counted in an IR and in the compiled model.

    Attributes:
        operators: operators by type, without constants, inputs and outputs.
        weight_bytes: bytes of all constants by data type, as OpenVINO names it (f32, f16, bf16, i8, ...).
        parameters: learnt numbers, without a quantizer's scales and zero points.
        zeros: exact zeros among them.
        float_bytes: bytes of FP32 weights that go straight into weighted operators.
        ran: weighted layers by type and the data type that they multiply, as in "FullyConnected in u8".
    """

    operators: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    parameters: int
    zeros: int
    float_bytes: int
    ran: Mapping[str, int]

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the parameters."""
        return self.zeros / self.parameters if self.parameters else 0.0

    @property
    def small_bytes(self) -> int:
        """Bytes of constants of 8 bits or fewer."""
        return sum(self.weight_bytes.get(name, 0) for name in _SMALL)

    def ran_in(self, *precisions: str) -> int:
        """How many weighted layers ran in one of these precisions."""
        return sum(count for name, count in self.ran.items() if name.endswith(tuple(f" in {p}" for p in precisions)))


def ir_census(model: Any, compiled: Any) -> IrCensus:
    """Count an `openvino.Model`, and the layers of what it was compiled to."""
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    learnt = [array for op, array in _arrays(constants) if _is_learnt(op, array)]
    sizes: Counter[str] = Counter()
    for op in constants:
        sizes[op.get_element_type().get_type_name()] += op.get_byte_size()
    return IrCensus(
        operators=_counted(op.get_type_name() for op in model.get_ops() if op.get_type_name() not in _NO_OPERATORS),
        weight_bytes=dict(sorted(sizes.items())),
        parameters=sum(array.size for array in learnt),
        zeros=sum(int((array == 0).sum()) for array in learnt),
        float_bytes=sum(op.get_byte_size() for op in constants if _is_left_in_float(op)),
        ran=_counted(_layers_ran(compiled)),
    )


def weight_precision(model: Any) -> str:
    """The type, f32, f16 or bf16, that holds most bytes of a model's floating-point constants."""
    sizes = dict.fromkeys(_SHORT.values(), 0)
    for op in model.get_ops():
        name = op.get_element_type().get_type_name() if op.get_type_name() == "Constant" else ""
        if name in sizes:
            sizes[name] += op.get_byte_size()
    return max(sizes, key=lambda name: sizes[name])


def ir_mismatch(precision: str, census: IrCensus) -> str:
    """Why a compiled IR is not what its precision says; empty where it is."""
    if precision == "int8":
        return _int8_mismatch(census)
    if census.ran_in("i8", "u8"):
        return f"asked for {precision}, but {census.ran_in('i8', 'u8')} layers ran in 8 bits ({_listed(census.ran)})"
    sizes = {name: census.weight_bytes.get(name, 0) for name in _SHORT.values()} | {
        "8 bits or fewer": census.small_bytes
    }
    wanted = _SHORT[precision]
    if sizes[wanted] < max(sizes.values()):
        return f"asked for {precision}, but the weights take {_listed(sizes)} bytes"
    if precision == "bf16" and not census.ran_in("bf16"):
        return f"asked for bf16, but no layer ran in it ({_listed(census.ran)})"
    return ""


def _int8_mismatch(census: IrCensus) -> str:
    if not census.small_bytes:
        return f"asked for int8, but no weight is stored in 8 bits or fewer ({_listed(census.weight_bytes)} bytes)"
    if not census.ran_in("i8", "u8"):
        return f"asked for int8, but no layer ran in 8 bits ({_listed(census.ran)})"
    if census.float_bytes > _TOLERATED * census.small_bytes:
        return (
            f"asked for int8, but most weights of matrix products and convolutions are still floating point "
            f"({census.float_bytes} bytes against {census.small_bytes} in 8 bits or fewer): "
            "this technique does not fit the model"
        )
    return ""


def _arrays(constants: list[Any]) -> Iterator[tuple[Any, np.ndarray[Any, Any]]]:
    return ((op, op.data) for op in constants)


def _is_learnt(op: Any, array: np.ndarray[Any, Any]) -> bool:
    name = op.get_friendly_name()
    return not name.startswith(_QUANTIZER_PREFIXES) and is_parameter(name, array)


def _is_left_in_float(op: Any) -> bool:
    consumers = {target.get_node().get_type_name() for target in op.output(0).get_target_inputs()}
    return op.get_element_type().get_type_name() == "f32" and not consumers.isdisjoint(_WEIGHTED_OPERATORS)


def _layers_ran(compiled: Any) -> Iterator[str]:
    """Type of each weighted layer of the compiled model, and the data type that it multiplies: that of its first input.

    What the runtime calls a layer's precision (`runtimePrecision`) is 8 bits even where 8-bit weights are widened first.
    """
    for op in compiled.get_runtime_model().get_ops():
        kind = str(op.get_rt_info()["layerType"].value)
        if kind in _WEIGHTED_LAYERS:
            fed = op.inputs()[0].get_source_output().get_element_type().get_type_name()
            yield f"{kind} in {fed}"


def _counted(names: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
