"""BF16 weights in an ONNX graph, half the bytes; a runtime that computes in BF16 takes them as they are.

The graph turns them into FP32 before it uses them, so that a runtime without BF16 arithmetic can check it.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import BuildError
from ..model import Examples, Model, OnnxModel
from ..onnx_files import read_valid
from ..recipe import StepConfig
from . import StepResult, Technique

_LEAST_RANK = 2
"""Matrices and kernels are stored in BF16; biases, scales and shapes are small and stay as they are."""


class Bfloat16Weights(StepConfig):
    """Nothing to choose: every FP32 weight of two or more axes is stored in BF16."""

    use: ClassVar[str] = "onnx-bf16-weights"


def apply(model: Model, config: Bfloat16Weights, examples: Examples, folder: Path) -> StepResult:
    """Round the weights to the nearest BF16 number (ties to even).

    Raises:
        BuildError: the model is no ONNX graph, or holds no FP32 weight.
    """
    del config, examples
    import onnx

    if not isinstance(model, OnnxModel):
        raise BuildError("onnx-bf16-weights converts ONNX graphs; use half-precision for torch modules")
    graph = read_valid(model.path)
    converted = _convert(graph.graph)
    if not converted:
        raise BuildError("onnx-bf16-weights found no FP32 weight of two or more axes to convert")
    path = folder / "model.onnx"
    onnx.save(graph, str(path))
    return StepResult(OnnxModel(path, model.signature), {"weights_converted": converted})


def _convert(graph: Any) -> int:
    """Store the weights in BF16 under a new name; a Cast gives the old name to their FP32 form."""
    import onnx

    given = {value.name for value in graph.input}
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < _LEAST_RANK or tensor.name in given:
            continue
        name = tensor.name
        tensor.CopyFrom(_rounded(tensor, f"{name}_bf16"))
        casts.append(
            onnx.helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(casts)


def _rounded(tensor: Any, name: str) -> Any:
    import ml_dtypes
    import onnx

    array = onnx.numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
    return onnx.helper.make_tensor(
        name, onnx.TensorProto.BFLOAT16, array.shape, array.view(np.uint16).tobytes(), raw=True
    )


TECHNIQUE = Technique("onnx-bf16-weights", Bfloat16Weights, "onnx", apply, excludes=("onnx-half-precision",))
