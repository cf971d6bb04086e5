"""Static INT8 by NNCF, in the form that OpenVINO computes fastest: activations of transformers are smoothed, biases corrected.

NNCF quantizes the ONNX graph itself, so that ONNX Runtime can check the step. Quantizing OpenVINO's own form of a six-layer
BERT instead moved the scores as far, put as many layers in 8 bits and ran as fast.
"""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..batches import as_types, calibration_batches, row_count
from ..cpu import int8_target
from ..errors import BuildError, ConfigError, UnavailableError, first_line
from ..model import Batch, Examples, Model, OnnxModel
from ..no_telemetry import without_telemetry
from ..onnx_files import count_nodes, nodes_of, read_signature, read_valid
from ..quiet import quiet
from ..recipe import StepConfig
from . import StepResult, Technique
from .static_int8 import activation_products

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class NncfInt8(StepConfig):
    """How ranges are learnt and activations treated."""

    use: ClassVar[str] = "nncf-int8"
    samples: int = Field(300, ge=1, description="use at most so many calibration examples")
    preset: Literal["mixed", "performance"] = Field(
        "mixed", description="activations with a zero point of their own, or symmetric ones"
    )
    model_type: Literal["auto", "transformer", "other"] = Field(
        "auto",
        description="transformer: smooth activations, and leave attention masks alone; auto: where there is attention",
    )
    fast_bias_correction: bool = Field(default=True, description="correct biases quickly, or thoroughly and slowly")
    reduce_range: bool = Field(
        default_factory=lambda: int8_target() == "x86",
        description="7-bit weights; default: on x86 processors without VNNI, whose 8-bit products overflow",
    )


def apply(model: Model, config: NncfInt8, examples: Examples, folder: Path) -> StepResult:
    """Calibrate and quantize.

    Raises:
        ConfigError: there is no calibration data, or none of the batch that the graph is fixed to.
        UnavailableError: NNCF is not installed.
        BuildError: NNCF refused the graph, or there is nothing in it to quantize.
    """
    import onnx

    if not isinstance(model, OnnxModel):
        raise BuildError("nncf-int8 quantizes ONNX graphs only")
    if not examples.calibration:
        raise ConfigError("nncf-int8 needs calibration data: set [workload] calibration to a file of it")
    if importlib.util.find_spec("nncf") is None:
        raise UnavailableError("nncf is not installed. To make it available: pip install 'weighbridge[openvino]'")
    graph = read_valid(model.path)
    transformer = _is_transformer(graph) if config.model_type == "auto" else config.model_type == "transformer"
    batches = calibration_batches(examples.calibration, config.samples, model.signature, config.use)
    try:
        quantized = _quantized(graph, config, batches, transformer=transformer)
    except Exception as error:
        raise BuildError(f"nncf-int8: NNCF refused the graph: {first_line(error)}") from error
    replaced = _quantized_nodes(quantized)
    if not replaced:
        raise BuildError(
            f"nncf-int8 replaced no node; it can replace {', '.join(_WEIGHTED)} whose weights are constant"
        )
    path = folder / "model.onnx"
    onnx.save(quantized, str(path))
    details = {"nodes_replaced": replaced, "samples": sum(map(row_count, batches)), "transformer": transformer}
    return StepResult(OnnxModel(path, model.signature), details)


def _is_transformer(graph: Any) -> bool:
    """Whether the graph has attention: a Softmax, and products of two activations."""
    return "Attention" in count_nodes(graph) or ("Softmax" in count_nodes(graph) and bool(activation_products(graph)))


def _quantized(graph: Any, config: NncfInt8, batches: list[Batch], *, transformer: bool) -> Any:
    nncf = without_telemetry("nncf")
    dtypes = {spec.name: spec.dtype for spec in read_signature(graph).inputs}

    overflow = nncf.quantization.advanced_parameters.OverflowFix
    with quiet():
        return nncf.quantize(
            graph,
            nncf.Dataset(batches, lambda batch: as_types(batch, dtypes)),
            preset=nncf.QuantizationPreset(config.preset),
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(batches),
            fast_bias_correction=config.fast_bias_correction,
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=overflow.ENABLE if config.reduce_range else overflow.DISABLE
            ),
        )


def _quantized_nodes(graph: Any) -> dict[str, int]:
    """Weighted nodes of each type whose second input comes from DequantizeLinear; the first may be reshaped after it."""
    dequantized = {name for node in nodes_of(graph) if node.op_type == "DequantizeLinear" for name in node.output}
    found = [node.op_type for node in nodes_of(graph) if len(node.input) > 1 and node.input[1] in dequantized]
    return {name: found.count(name) for name in _WEIGHTED if name in found}


TECHNIQUE = Technique("nncf-int8", NncfInt8, "onnx", apply, needs_calibration=True, quantizes=True)
