"""Gemm as matrix product and sum: what a Linear layer is exported as, and what quantizers of matrix products replace."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .onnx_files import attributes_of, weights_of

_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}
"""The attributes, at their defaults, of a Gemm that is a MatMul and an Add."""


def replace_gemm(model: Any) -> None:
    """Turn each Gemm with a constant weight and plain attributes into a MatMul of its name and, where it has a bias, Add.

    ONNX Runtime's own replacement transposes the weight in place, which spoils it for other nodes that use it.
    """
    constants = dict(weights_of(model))
    nodes: list[Any] = []
    for node in model.graph.node:
        plain = node.op_type == "Gemm" and node.input[1] in constants and _is_plain(node)
        nodes.extend(_product_and_sum(node, constants, model.graph) if plain else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _is_plain(node: Any) -> bool:
    values = attributes_of(node)
    return all(values.get(name, default) == default for name, default in _PLAIN.items())


def _product_and_sum(node: Any, constants: dict[str, Any], graph: Any) -> Iterator[Any]:
    """The nodes that stand for a Gemm; a transposed weight is added to the graph, once for all who use it so."""
    from onnx import helper, numpy_helper

    weight, (output,) = node.input[1], node.output
    if attributes_of(node).get("transB", 0):
        weight = f"{weight}_transposed"
        if weight not in constants:
            constants[weight] = np.ascontiguousarray(constants[node.input[1]].T)
            graph.initializer.append(numpy_helper.from_array(constants[weight], weight))
    bias = [name for name in node.input[2:] if name]
    product = f"{output}_product" if bias else output
    yield helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name or f"{output}_product")
    if bias:
        yield helper.make_node("Add", [product, *bias], [output], name=f"{node.name or output}_sum")
