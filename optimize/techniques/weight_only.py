"""Weight-only INT4 or INT8 in ONNX Runtime: packed weights with a scale for each block, floating-point activations.

Needs no calibration data. Matrix products with a constant weight are replaced by MatMulNBits; a Gemm, which is what the
Conv1D of a GPT-2 is exported as and which the quantizer passes over without a word, becomes MatMul and Add first.
Embeddings are looked up, not multiplied, and stay as they are; so do convolutions and recurrent layers. A tied output
layer is packed, and its embedding beside it is kept in floating point.

INT8 arithmetic (accuracy level 4) is the default: at the other levels the weights are widened before every product, which is
slower than FP32 with 8 bits. It gains where few rows share a reading of the weights, as in a generator's next token; with
many rows, a long prompt or a classifier's batch, the weights are not what takes the time, and dynamic INT8 is faster.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..errors import BuildError, first_line
from ..model import Examples, Model, OnnxModel
from ..onnx_files import bytes_of, count_nodes, nodes_of, weights_of
from ..onnx_gemm import replace_gemm
from ..onnx_layers import layer_details, layers_of, need_layers, quantizable_graph
from ..onnx_packed import PACKED_PRODUCT, packed_weights
from ..quiet import quiet
from ..recipe import StepConfig
from . import StepResult, Technique

_WEIGHTED = ("Attention", "Conv", "ConvTranspose", "GRU", "LSTM")


class WeightOnly(StepConfig):
    """How weights are packed, and how they are multiplied."""

    use: ClassVar[str] = "weight-only"
    bits: Literal[4, 8] = Field(4, description="bits of a weight")
    block_size: Literal[16, 32, 64, 128, 256] = Field(
        32, description="weights that share a scale: fewer are more accurate; the last block of a column is filled up"
    )
    symmetric: bool = Field(
        default=False, description="zero in the middle of the range, or a zero point for each block"
    )
    accuracy_level: Literal[0, 1, 2, 3, 4] = Field(
        4, description="least accurate arithmetic allowed: 0 the runtime's choice, 1 FP32, 2 FP16, 3 BF16, 4 INT8"
    )
    exclude: tuple[str, ...] = Field((), description="names of layers left in float")


def apply(model: Model, config: WeightOnly, examples: Examples, folder: Path) -> StepResult:
    """Pack the weights of the graph's matrix products.

    Raises:
        ConfigError: a layer that is to be excluded does not exist.
        BuildError: the quantizer refused the graph, or there is no product with a constant weight in it.
    """
    del examples
    import onnx

    if not isinstance(model, OnnxModel):
        raise BuildError("weight-only quantizes ONNX graphs only")
    with _refusing():
        given, before = onnx.load(str(model.path)), quantizable_graph(model.path)
        replace_gemm(before)
    layers, weights = layers_of(before), dict(weights_of(before))
    need_layers(config.exclude, layers, config.use)
    path = folder / "model.onnx"
    with _refusing():
        after = _quantized(before, config)
        onnx.save(after, str(path))
    replaced = count_nodes(after).get(PACKED_PRODUCT, 0) - count_nodes(given).get(PACKED_PRODUCT, 0)
    left = dict(sorted(Counter(_left(after, config.exclude)).items()))
    if not replaced:
        listed = ", ".join(f"{count} {reason}" for reason, count in left.items())
        raise BuildError(f"weight-only replaced no node; it packs constant matrices only; left: {listed or 'nothing'}")
    details = {
        "nodes_replaced": {"MatMul": replaced},
        "nodes_left": left,
        "weight_bytes": {"before": _bytes(given), "after": _bytes(after)},
        "weight_error": _weight_error(weights, after),
        **layer_details(layers, layers_of(after), config.exclude),
    }
    return StepResult(OnnxModel(path, model.signature), details)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Whatever the libraries raise of a graph is a BuildError; what they log is kept back."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise BuildError(f"weight-only: the quantizer refused the graph: {first_line(error)}") from error


def _quantized(model: Any, config: WeightOnly) -> Any:
    """The graph with packed weights; those that the quantizer wrote once for each of their users are there once."""
    quantizer = _quantizer_class()(
        model,
        bits=config.bits,
        block_size=config.block_size,
        is_symmetric=config.symmetric,
        accuracy_level=config.accuracy_level,
        nodes_to_exclude=list(config.exclude),
    )
    quantizer.process()
    quantized = quantizer.model.model
    tensors = quantized.graph.initializer
    names: set[str] = set()
    for place in reversed(range(len(tensors))):
        if tensors[place].name in names:
            del tensors[place]
        else:
            names.add(tensors[place].name)
    return quantized


def _quantizer_class() -> Any:
    """Import the quantizer, and undo what its import does to the root logger, which is not ours to set up."""
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    return MatMulNBitsQuantizer


def _left(model: Any, exclude: Collection[str]) -> Iterator[str]:
    """Type and reason of each node that could hold weights, or multiplies activations, and is not packed."""
    constants = {name for name, _ in weights_of(model)}
    for node in nodes_of(model):
        if node.op_type in ("MatMul", "Gemm"):
            yield f"{node.op_type} ({'excluded' if node.name in exclude else _why_left(node, constants)})"
        elif node.op_type in _WEIGHTED:
            held = constants.intersection(node.input)
            yield f"{node.op_type} ({'no packed form' if held else 'products of activations'})"
        elif node.op_type == "Gather" and node.input[0] in constants:
            yield "Gather (looked up, not multiplied)"


def _why_left(node: Any, constants: set[str]) -> str:
    if not constants.intersection(node.input[:2]):
        return "product of two activations"
    if node.op_type == "Gemm":
        return "alpha, beta or transA is set"
    return "the weight is no matrix on the right"


def _bytes(model: Any) -> int:
    return sum(bytes_of(array) for _, array in weights_of(model))


def _weight_error(weights: dict[str, Any], model: Any) -> float:
    """Root mean square of what packing changed in the packed weights, as a share of their own root mean square."""
    changed = total = 0.0
    for packed in (each for each in packed_weights(model) if each.name not in weights):
        weight = weights[packed.name.removesuffix(f"_Q{packed.bits}")].astype(np.float32)
        weight = weight.reshape(weight.shape[-2:])
        changed += float(np.square(weight - packed.dequantized()).sum())
        total += float(np.square(weight).sum())
    return (changed / total) ** 0.5 if total else 0.0


TECHNIQUE = Technique("weight-only", WeightOnly, "onnx", apply, quantizes=True)
