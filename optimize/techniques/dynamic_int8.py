"""Dynamic INT8 in ONNX Runtime: INT8 weights, activations quantized at run time by their own range.

Needs no calibration data. Matrix products and LSTMs gain. Convolutions are left alone unless they hold most of the
weights: measured with ONNX Runtime 1.31 on a processor with VNNI, a CNN with INT8 convolutions took 3.5 times as long
as in FP32 and with UINT8 ones 1.2 times as long, so that only the file gets smaller. GRU has no integer form. Embeddings
are looked up in INT8: on a sentence classifier (MiniLM) this changed neither speed nor accuracy, and the file was 23 MB
instead of 59.
"""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ..cpu import int8_target
from ..errors import BuildError, first_line
from ..model import Examples, Model, OnnxModel
from ..onnx_audit import need_no_activation_products
from ..onnx_files import count_nodes, is_small, nodes_of, weights_of
from ..onnx_gemm import replace_gemm
from ..onnx_layers import layer_details, layers_of, need_layers, quantizable_graph
from ..quiet import quiet
from ..recipe import StepConfig
from . import StepResult, Technique

_PRODUCTS = ("Gemm", "MatMul")
_RECURRENT = ("Attention", "LSTM")
_WEIGHTED = (*_PRODUCTS, *_RECURRENT, "Conv")


class DynamicInt8(StepConfig):
    """How weights are quantized."""

    use: ClassVar[str] = "dynamic-int8"
    per_channel: bool = Field(default=True, description="a scale for each output channel, or one for the whole weight")
    reduce_range: bool = Field(
        default_factory=lambda: int8_target() == "x86",
        description="7-bit weights; default: on x86 processors without VNNI, whose 8-bit products overflow",
    )
    embeddings: bool = Field(default=True, description="look embeddings up in INT8 too, which makes the file smaller")
    exclude: tuple[str, ...] = Field((), description="names of layers left in float")


def apply(model: Model, config: DynamicInt8, examples: Examples, folder: Path) -> StepResult:
    """Quantize the graph's weights.

    Raises:
        ConfigError: a layer that is to be excluded does not exist.
        BuildError: the quantizer refused the graph, or nothing in it could be quantized.
    """
    del examples
    import onnx

    if not isinstance(model, OnnxModel):
        raise BuildError("dynamic-int8 quantizes ONNX graphs only")
    before = _graph(model.path)
    layers = layers_of(before)
    need_layers(config.exclude, layers, config.use)
    op_types = quantizable(before)
    path = folder / "model.onnx"
    try:
        with quiet():
            _quantize(before, path, [*op_types, *(["Gather"] if config.embeddings else [])], config)
    except Exception as error:
        raise BuildError(f"dynamic-int8: the quantizer refused the graph: {first_line(error)}") from error
    quantized = onnx.load(str(path))
    after = count_nodes(quantized)
    replaced = replaced_nodes(count_nodes(before), after, op_types)
    if not replaced:
        raise BuildError(
            f"dynamic-int8 replaced no node; the graph has {_listed(count_nodes(before))}; excluded: {len(config.exclude)}"
        )
    need_no_activation_products(quantized, config.use)
    details = {
        "nodes_replaced": replaced,
        "nodes_left": {name: after[name] for name in _WEIGHTED if after.get(name)},
        "embeddings": _small_lookups(quantized),
        **layer_details(layers, layers_of(quantized), config.exclude),
    }
    return StepResult(OnnxModel(path, model.signature), details)


def _graph(path: Path) -> Any:
    """The graph with each Gemm as the product that the quantizer makes of it, here under the layer's own name.

    Raises:
        BuildError: the file holds no graph.
    """
    try:
        graph = quantizable_graph(path)
    except Exception as error:
        raise BuildError(f"dynamic-int8: the quantizer refused the graph: {first_line(error)}") from error
    replace_gemm(graph)
    return graph


def _quantize(graph: Any, path: Path, op_types: list[str], config: DynamicInt8) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        graph,
        str(path),
        op_types_to_quantize=op_types,
        nodes_to_exclude=list(config.exclude),
        per_channel=config.per_channel,
        reduce_range=config.reduce_range,
        weight_type=QuantType.QUInt8 if "Conv" in op_types else QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
    )


def quantizable(graph: Any) -> list[str]:
    """The operator types of a graph that are worth quantizing dynamically.

    The quantizer turns Gemm into MatMul first, so that the two are named together or neither is.
    """
    sizes = _weight_bytes(graph)
    products = list(_PRODUCTS) if any(name in sizes for name in _PRODUCTS) else []
    recurrent = [name for name in _RECURRENT if name in sizes]
    convolutions = ["Conv"] if sizes.get("Conv", 0) > sum(sizes.values()) / 2 else []
    return [*products, *recurrent, *convolutions]


def _weight_bytes(graph: Any) -> dict[str, int]:
    """Bytes of constant weights by the type of the node that they go into."""
    constants = {name: array.nbytes for name, array in weights_of(graph)}
    sizes: dict[str, int] = {}
    for node in nodes_of(graph):
        held = sum(constants.get(name, 0) for name in node.input[1:])
        if node.op_type in _WEIGHTED and held:
            sizes[node.op_type] = sizes.get(node.op_type, 0) + held
    return sizes


def replaced_nodes(before: dict[str, int], after: dict[str, int], op_types: list[str]) -> dict[str, int]:
    """How many nodes of each type are gone; Gemm and MatMul, which become each other, count as MatMul."""
    gone = {name: before.get(name, 0) - after.get(name, 0) for name in op_types}
    products = sum(gone.pop(name, 0) for name in _PRODUCTS)
    return {name: count for name, count in {"MatMul": products, **gone}.items() if count}


def _small_lookups(graph: Any) -> int:
    """How many Gather nodes look something up in weights of 8 bits."""
    small = {name for name, array in weights_of(graph) if is_small(array)}
    return sum(node.op_type == "Gather" and node.input[0] in small for node in nodes_of(graph))


def _listed(nodes: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in nodes.items())


TECHNIQUE = Technique(
    "dynamic-int8", DynamicInt8, "onnx", apply, quantizes=True, excludes=("half-precision", "onnx-half-precision")
)
