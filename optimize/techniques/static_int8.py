"""Static INT8 in ONNX Runtime: Q/DQ nodes with activation ranges learnt from calibration data, by target."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..batches import as_types, calibration_batches, positions_of, row_count
from ..cpu import int8_target
from ..errors import BuildError, ConfigError, first_line
from ..model import Batch, Examples, Model, OnnxModel, Signature
from ..onnx_audit import need_no_activation_products
from ..onnx_decoder import past_names
from ..onnx_files import nodes_of, read_signature, weights_of
from ..onnx_layers import layer_details, layers_of, need_layers, quantizable_graph
from ..quiet import quiet
from ..recipe import StepConfig
from . import StepResult, Technique

_PRODUCTS = ("Gemm", "MatMul")
_OP_TYPES = ("Conv", *_PRODUCTS)
_NO_HISTOGRAM = "Too many bins for data range"
"""What numpy says of numbers so small or so large that their range cannot be cut into bins."""


class StaticInt8(StepConfig):
    """How ranges are learnt, and for which processor the graph is made."""

    use: ClassVar[str] = "static-int8"
    calibration: Literal["minmax", "entropy", "percentile"] = Field(
        "minmax", description="the whole range seen, the one that loses least information, or 99.999 % of the numbers"
    )
    samples: int = Field(256, ge=1, description="use at most so many calibration examples")
    target: Literal["x86-vnni", "x86", "arm", "tensorrt"] = Field(
        default_factory=int8_target, description="number formats; default: those of this processor"
    )
    per_channel: bool = Field(default=True, description="a scale for each output channel, or one for the whole weight")
    exclude: tuple[str, ...] = Field((), description="names of layers left in float")


@dataclass(frozen=True)
class Target:
    """Number formats that a processor multiplies fast: activations unsigned or signed, 7-bit weights, symmetry."""

    unsigned_activations: bool
    reduce_range: bool = False
    symmetric_activations: bool = False
    quantize_bias: bool = True


TARGETS = {
    "x86-vnni": Target(unsigned_activations=True),
    "x86": Target(unsigned_activations=True, reduce_range=True),
    "arm": Target(unsigned_activations=False),
    "tensorrt": Target(unsigned_activations=False, symmetric_activations=True, quantize_bias=False),
}


def apply(model: Model, config: StaticInt8, examples: Examples, folder: Path) -> StepResult:
    """Calibrate and quantize; products of two activations (attention) stay as they are.

    Raises:
        ConfigError: there is no calibration data, none of the batch that the graph is fixed to, or no such layer to exclude.
        BuildError: the quantizer refused the graph, or there is nothing in it to replace.
    """
    import onnx

    if not isinstance(model, OnnxModel):
        raise BuildError("static-int8 quantizes ONNX graphs only")
    if not examples.calibration:
        raise ConfigError("static-int8 needs calibration data: set [workload] calibration to a file of it")
    before = quantizable_graph(model.path)
    layers = layers_of(before)
    need_layers(config.exclude, layers, config.use)
    batches = calibration_batches(examples.calibration, config.samples, model.signature, config.use)
    products = activation_products(before)
    path = folder / "model.onnx"
    _quantize(before, path, config, [*products, *config.exclude], [_whole(batch, model.signature) for batch in batches])
    quantized = onnx.load(str(path))
    replaced = _quantized_nodes(quantized)
    if not replaced:
        raise BuildError(
            f"static-int8 replaced no node; it can replace {', '.join(_OP_TYPES)} whose weights are constant; "
            f"excluded: {len(config.exclude)}"
        )
    need_no_activation_products(quantized, config.use)
    details = {
        "nodes_replaced": replaced,
        "nodes_excluded": len(products),
        "samples": sum(row_count(batch) for batch in batches),
        "target": config.target,
        **layer_details(layers, layers_of(quantized), config.exclude),
    }
    return StepResult(OnnxModel(path, model.signature), details)


def activation_products(graph: Any) -> list[str]:
    """Names of the MatMul nodes neither of whose inputs is a constant."""
    constants = {name for name, _ in weights_of(graph)}
    products = (node for node in nodes_of(graph) if node.op_type == "MatMul")
    return [node.name for node in products if not constants.intersection(node.input)]


def _whole(batch: Batch, signature: Signature) -> Batch:
    """The batch with all that its graph takes: a decoder's positions and an empty cache too, as in prefill.

    Attention looks back only, so the activations of a prompt are those of decoding it token by token.
    """
    if signature.cache is None:
        return batch
    cache = signature.cache
    length = batch["input_ids"].shape[1]
    beside = {"position_ids": positions_of(batch["attention_mask"], length), "logits_to_keep": np.arange(length)}
    empty = np.zeros((row_count(batch), cache.heads, 0, cache.head_size), np.float32)
    return {**batch, **beside, **dict.fromkeys(past_names(cache.layers), empty)}


def _quantize(graph: Any, path: Path, config: StaticInt8, excluded: list[str], batches: list[Batch]) -> None:
    """Quantize the graph; where the values of a convolution have no histogram, its matrix products alone.

    Raises:
        BuildError: the quantizer refused the graph.
    """
    try:
        try:
            _run_quantizer(graph, path, config, excluded, batches, _OP_TYPES)
        except ValueError as error:
            if _NO_HISTOGRAM not in str(error):
                raise
            _run_quantizer(graph, path, config, excluded, batches, _PRODUCTS)
    except Exception as error:
        hint = "; calibration = 'minmax' needs no histogram" if _NO_HISTOGRAM in str(error) else ""
        raise BuildError(f"static-int8: the quantizer refused the graph: {first_line(error)}{hint}") from error


def _run_quantizer(
    graph: Any, path: Path, config: StaticInt8, excluded: list[str], batches: list[Batch], op_types: Sequence[str]
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    target = TARGETS[config.target]
    with quiet():
        quantize_static(
            graph,
            str(path),
            _reader(batches, {spec.name: spec.dtype for spec in read_signature(graph).inputs}),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(op_types),
            nodes_to_exclude=excluded,
            per_channel=config.per_channel,
            reduce_range=target.reduce_range,
            activation_type=QuantType.QUInt8 if target.unsigned_activations else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[config.calibration],
            extra_options={
                "ActivationSymmetric": target.symmetric_activations,
                "WeightSymmetric": True,
                "QuantizeBias": target.quantize_bias,
                "CalibStridedMinMax": 1,
            },
        )


def _reader(batches: list[Batch], dtypes: dict[str, str]) -> Any:
    """A calibration reader that gives the batches one at a time, in the types that the graph takes.

    Histograms would otherwise hold the activations of all batches at once, and fail where two batches differ in shape.
    """
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Batch] = iter(())

        def __len__(self) -> int:
            return len(batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(batches[start_index:end_index])

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._left, None)
            if batch is None:
                return None
            return as_types(batch, dtypes)

    return Reader()


def _quantized_nodes(graph: Any) -> dict[str, int]:
    """Nodes of each type whose first two inputs come from DequantizeLinear."""
    dequantized = {name for node in nodes_of(graph) if node.op_type == "DequantizeLinear" for name in node.output}
    found = [node.op_type for node in nodes_of(graph) if len(node.input) > 1 and set(node.input[:2]) <= dequantized]
    return {name: found.count(name) for name in _OP_TYPES if name in found}


TECHNIQUE = Technique("static-int8", StaticInt8, "onnx", apply, needs_calibration=True, quantizes=True)
