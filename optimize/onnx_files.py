"""Reading, checking and looking into ONNX files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .errors import InputError, first_line
from .model import Signature, TensorSpec
from .plain_data import is_inside

_PACKED = {"int4": 2, "uint4": 2, "float4_e2m1fn": 2}
"""How many numbers of a type share a byte in the file."""
_NO_NUMBERS = (0, 8)
"""Codes of element types: undefined, and texts."""

Dims = tuple[int | str, ...]
"""Of each axis the size, or the name of a free one; 0 where neither is noted."""


def read_valid(path: Path) -> Any:
    """Read an ONNX file, its external data included, and check it.

    Raises:
        InputError: it is missing, not an ONNX model, invalid, or its external data lies outside its folder.
    """
    import onnx

    model = _read(path)
    _external_locations(model, path)
    try:
        onnx.checker.check_model(str(path))
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise InputError(f"{path} is not a valid ONNX model: {first_line(error)}") from error
    return model


def external_files(path: Path) -> tuple[str, ...]:
    """The files beside an ONNX file that hold its weights, relative to its folder; none where it holds them itself.

    Raises:
        InputError: it is missing, not an ONNX model, or names files outside its folder.
    """
    return _external_locations(_read(path), path)


def _read(path: Path) -> Any:
    """Read the graph without its external data."""
    import onnx

    if not path.is_file():
        raise InputError(f"model {path} is not a file; give an .onnx file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(
            f"{path} is not an ONNX model ({first_line(error)}); it may be cut short or of another format"
        ) from error
    if not model.graph.node:
        raise InputError(f"{path} is not an ONNX model: it holds no node")
    return model


def _external_locations(model: Any, path: Path) -> tuple[str, ...]:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    entries = (
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in (*_get_all_tensors(model), *_sparse_parts(model))
        if uses_external_data(tensor)
    )
    locations = sorted({entry.get("location", "") for entry in entries})
    for location in locations:
        if not is_inside(location):
            raise InputError(f"{path} refers to external data at '{location}'; only files beside the model are read")
        if not os.path.isfile(path.parent / location):  # noqa: PTH113 - Path.is_file raises on a name that is too long
            raise InputError(f"{path} keeps its weights in '{location}', which is missing beside it; put it there")
    return tuple(locations)


def _sparse_parts(model: Any) -> Iterator[Any]:
    """The tensors that sparse ones are made of, which the library's own walk passes by."""
    nodes = list(nodes_of(model))
    graphs = [model.graph, *(graph for node in nodes for graph in _subgraphs(node))]
    sparse = [
        *(tensor for graph in graphs for tensor in graph.sparse_initializer),
        *(attribute.sparse_tensor for node in nodes for attribute in node.attribute),
        *(tensor for node in nodes for attribute in node.attribute for tensor in attribute.sparse_tensors),
    ]
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def read_signature(model: Any) -> Signature:
    """Read the inputs (without the weights among them) and outputs of a classifier's graph.

    Floating-point outputs come first: a graph may give the label before the scores.

    Raises:
        InputError: the graph has no input or no output, or an input is not a tensor of numbers.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor_spec(value) for value in model.graph.input if value.name not in weights)
    outputs = sorted(model.graph.output, key=lambda value: not _is_floating(value))
    if not inputs or not outputs:
        raise InputError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs; it needs one of each at least"
        )
    return Signature("classifier", inputs, tuple(value.name for value in outputs))


def _tensor_spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    known = onnx.TensorProto.DataType.values()
    if not value.type.HasField("tensor_type") or tensor.elem_type not in known or tensor.elem_type in _NO_NUMBERS:
        raise InputError(
            f"the model's input '{value.name}' is not a tensor of numbers; only such inputs can be weighed"
        )
    dims = tuple(
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or f"dim{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, dims)


def _is_floating(value: Any) -> bool:
    import onnx

    types = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
    return value.type.tensor_type.elem_type in types


def count_nodes(model: Any) -> dict[str, int]:
    """Count the operators of a graph by type, those of subgraphs and functions included."""
    counts = Counter(node.op_type for node in nodes_of(model))
    return dict(sorted(counts.items()))


def nodes_of(model: Any) -> Iterator[Any]:
    """Every node of a model: the graph's, its subgraphs' and its functions'."""
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _nodes(graph.node)


def _subgraphs(node: Any) -> Iterator[Any]:
    import onnx

    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes that a node is given, by name; those left at their defaults are not among them."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def dims_of(value: Any) -> Dims:
    """The dimensions that a graph notes of a value; none where it notes nothing."""
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


def weights_of(model: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and array of every weight: initializers, those of subgraphs too, and the tensors of Constant nodes.

    Raises:
        InputError: one is of an unknown type, or has not the bytes of its shape.
    """
    nodes = list(nodes_of(model))
    graphs = [model.graph, *(graph for node in nodes for graph in _subgraphs(node))]
    for tensor in (tensor for graph in graphs for tensor in graph.initializer):
        yield tensor.name, _array(tensor.name, tensor)
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], _array(node.output[0], attribute.t)


def _array(name: str, tensor: Any) -> NDArray[Any]:
    import onnx

    try:
        found: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    except Exception as error:
        raise InputError(f"the weight '{name}' cannot be read ({first_line(error)}); the model is damaged") from error
    return found


def bytes_of(array: NDArray[Any]) -> int:
    """The bytes that an array takes in the file; two 4-bit numbers share one."""
    return -(-array.nbytes // _PACKED.get(array.dtype.name, 1))


def is_parameter(name: str, array: NDArray[Any]) -> bool:
    """Whether a tensor holds learnt numbers: not a scalar, a shape or index, nor a quantizer's scale or zero point.

    The names are those that ONNX Runtime's quantizer gives; its quantized biases are 32-bit integers.
    """
    if array.ndim == 0 or name.endswith(("_scale", "_zero_point")):
        return False
    kind = array.dtype.name
    return kind.startswith(("float", "bfloat")) or is_small(array) or (kind == "int32" and name.endswith("_quantized"))


def is_small(array: NDArray[Any]) -> bool:
    """Whether the numbers are integers of 8 bits or fewer."""
    return array.dtype.name in ("int8", "uint8", "int4", "uint4", "int2", "uint2")
