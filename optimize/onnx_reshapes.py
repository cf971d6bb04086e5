"""Take out of a graph the reshapes that fold positions together for a Gemm and apart again, or that change nothing.

The Conv1D of a GPT-2 is exported as Reshape, Gemm, Reshape; fed one token at a time, as a generator decodes, the reshapes take as
long as small products. In their place comes what a Linear layer is exported as: MatMul and Add.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .onnx_files import Dims, dims_of, weights_of
from .onnx_gemm import replace_gemm

_RANK = 3
"""Batch, positions, features."""


@dataclass(frozen=True)
class _Wiring:
    """Who makes and who reads each value of a graph, and the dimensions that the graph notes of it, where it notes all."""

    makers: dict[str, Any]
    readers: dict[str, list[Any]]
    dims: dict[str, Dims]
    outputs: frozenset[str]

    def folded_from(self, name: str) -> Iterator[str]:
        """The values that this one is a mere reshape of, the nearest first."""
        while name in self.makers and self.makers[name].op_type == "Reshape":
            name = self.makers[name].input[0]
            yield name

    def only_reader(self, name: str) -> Any | None:
        """The node that alone reads a value; None where there are more, or the value is an output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def drop_reshapes(model: Any) -> None:
    """Change the graph in place; a reshape goes only where the graph's notes of dimensions show that it is not needed.

    The notes go too: products that are no longer folded have other dimensions.
    """
    replace_gemm(model)
    wiring = _wiring(model.graph)
    weights = {name for name, array in weights_of(model) if array.ndim == 2}  # noqa: PLR2004 - a matrix
    instead: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            instead |= _unfold(node, wiring)
        elif node.op_type == "Reshape" and node.output[0] not in wiring.outputs:
            instead |= _idle(node, wiring)
    _rewire(model.graph, instead)
    del model.graph.value_info[:]
    _drop_unused(model.graph)


def _wiring(graph: Any) -> _Wiring:
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = {name: node for node in graph.node for name in node.output}
    noted = {value.name: dims_of(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    dims = {name: found for name, found in noted.items() if found and all(found)}
    return _Wiring(makers, readers, dims, frozenset(value.name for value in graph.output))


def _unfold(product: Any, wiring: _Wiring) -> dict[str, str]:
    """Let a product take its input before its positions were folded, where they are unfolded right after it.

    Returns what stands instead of the unfolded value: the product, or the sum with its bias.
    """
    last = product.output[0]
    reader = wiring.only_reader(last)
    if reader is not None and reader.op_type == "Add":
        last = reader.output[0]
        reader = wiring.only_reader(last)
    if reader is None or reader.op_type != "Reshape" or reader.output[0] in wiring.outputs:
        return {}
    after = wiring.dims.get(reader.output[0], ())
    for name in wiring.folded_from(product.input[0]):
        before = wiring.dims.get(name, ())
        if len(before) == len(after) == _RANK and before[:-1] == after[:-1]:
            product.input[0] = name
            return {reader.output[0]: last}
    return {}


def _idle(reshape: Any, wiring: _Wiring) -> dict[str, str]:
    """What a reshape gives back unchanged, if it does: a value that it is a reshape of and that has its dimensions."""
    output = reshape.output[0]
    same = [
        name
        for name in wiring.folded_from(output)
        if output in wiring.dims and wiring.dims.get(name) == wiring.dims[output]
    ]
    return {output: same[-1]} if same else {}


def _rewire(graph: Any, instead: dict[str, str]) -> None:
    """Let every node read what stands instead of its inputs."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            while name in instead:
                name = instead[name]  # noqa: PLW2901 - followed to its end
            node.input[place] = name


def _drop_unused(graph: Any) -> None:
    """Drop the nodes that nothing reads, last ones first."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            read.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
