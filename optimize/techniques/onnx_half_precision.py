"""FP16 weights and arithmetic in an ONNX graph; inputs and outputs stay FP32."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ..errors import BuildError, first_line
from ..model import Examples, Model, OnnxModel
from ..onnx_files import nodes_of
from ..quiet import quiet
from ..recipe import StepConfig
from . import StepResult, Technique


class OnnxHalfPrecision(StepConfig):
    """Operator types that stay in FP32, beside those that have no FP16 form."""

    use: ClassVar[str] = "onnx-half-precision"
    keep_fp32: tuple[str, ...] = Field((), description="operator types left in FP32")


def apply(model: Model, config: OnnxHalfPrecision, examples: Examples, folder: Path) -> StepResult:
    """Convert the graph with ONNX Runtime's converter.

    Raises:
        BuildError: the converter refused the graph, or there was no weight to convert.
    """
    del examples
    import onnx

    if not isinstance(model, OnnxModel):
        raise BuildError("onnx-half-precision converts ONNX graphs; use half-precision for torch modules")
    try:
        with quiet():
            converted = _converted(onnx.load(str(model.path)), config.keep_fp32)
    except Exception as error:
        raise BuildError(f"onnx-half-precision: the converter refused the graph: {first_line(error)}") from error
    half = sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in converted.graph.initializer)
    if not half:
        raise BuildError("onnx-half-precision found no weight to convert")
    path = folder / "model.onnx"
    onnx.save(converted, str(path))
    casts = sum(node.op_type == "Cast" for node in nodes_of(converted))
    return StepResult(OnnxModel(path, model.signature), {"weights_converted": half, "casts": casts})


def _converted(graph: Any, keep_fp32: tuple[str, ...]) -> Any:
    """The graph in FP16, its nodes in order: the converter appends the casts that it needs."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel as Graph

    kept = [*DEFAULT_OP_BLOCK_LIST, *keep_fp32]
    converted = convert_float_to_float16(graph, keep_io_types=True, op_block_list=kept)
    Graph(converted).topological_sort()
    return converted


TECHNIQUE = Technique(
    "onnx-half-precision", OnnxHalfPrecision, "onnx", apply, excludes=("half-precision", "onnx-half-precision")
)
