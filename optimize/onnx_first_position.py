"""Let a graph compute one position only where its head reads no other: that of [CLS], in the last layer of a classifier.

A BERT-like classifier reads the first position of its last layer. That layer's keys and values come from all positions;
its queries, and all that follows the attention, are needed of the one that is read. The answers are the same numbers.

Needs run against the flow: from the node that picks position 0, upwards through operators that treat every position alike, to
values that another node needs whole. There the position is cut out, and every node below it computes that alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import BuildError
from .onnx_files import nodes_of, weights_of

WHOLE = -1
"""The need of a value of which more than position 0 of one axis is read."""

_ALIKE = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul"),
    *("Or", "Pow", "Sub", "Where", "Abs", "Cast", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
    *("Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt"),
    "Tanh",
)
"""Operators that compute each number from those at the same place of their inputs, which are stretched where they are shorter."""
_ALONG = ("LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax")
"""Operators that mix the numbers of their `axis` and those behind it, or of it alone; the last one where it is not given."""


@dataclass(frozen=True)
class _Facts:
    """What is known of a graph's values: dimensions (sizes, or names of free ones) and the numbers of constants."""

    dims: dict[str, tuple[int | str, ...]]
    constants: dict[str, Any]

    def rank(self, name: str) -> int:
        """How many axes a value has; 0 where that is unknown, or it is one number."""
        return len(self.dims.get(name, ()))


def read_first_position(model: Any) -> int:
    """Change the graph in place; returns how many matrix products compute one position instead of all.

    Raises:
        BuildError: there is no such product, or the graph has graphs within, which may read any value; it is as it was.
    """
    if len(list(nodes_of(model))) != len(model.graph.node):
        raise BuildError("the graph has graphs within, in which it is not told who reads what")
    facts = _facts(model)
    needs = _needs(model.graph, facts)
    narrow = [node for node in model.graph.node if _narrowed(node, needs, facts) is not None]
    products = [node for node in narrow if node.op_type == "MatMul"]
    if not products:
        raise BuildError("no matrix product computes positions that nothing reads")
    _cut(model.graph, needs, facts)
    stale = {name for node in narrow for name in node.output}
    kept = [value for value in model.graph.value_info if value.name not in stale]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return len(products)


def _facts(model: Any) -> _Facts:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    constants = dict(weights_of(model))
    noted = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
    dims = {
        name: tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
        for name, tensor in noted.items()
        if tensor.HasField("shape")
    }
    return _Facts(dims | {name: array.shape for name, array in constants.items()}, constants)


def _needs(graph: Any, facts: _Facts) -> dict[str, int]:
    """Of each value that is read, the axis of which position 0 alone is needed, or WHOLE."""
    needs = {value.name: WHOLE for value in graph.output}
    for node in reversed(graph.node):
        asked = _narrowed(node, needs, facts)
        if asked is None:
            asked = _picked(node, facts)
        for name, need in zip(node.input, asked, strict=True):
            needs[name] = need if needs.get(name, need) == need else WHOLE
    return needs


def _narrowed(node: Any, needs: dict[str, int], facts: _Facts) -> list[int] | None:
    """What a node needs of its inputs where position 0 alone of its answer is needed; None where it computes all of it."""
    read = [name for name in node.output if name in needs]
    axes = {needs[name] for name in read}
    rule = _RULES.get(node.op_type) if not node.domain else None
    if rule is None or len(axes) != 1 or axes == {WHOLE} or not facts.rank(node.output[0]):
        return None
    if len(read) > 1 and node.op_type != "Split":
        return None
    (axis,) = axes
    return rule(node, axis, facts)


def _picked(node: Any, facts: _Facts) -> list[int]:
    """What a node that computes its whole answer needs of its inputs: all, but of what position 0 is picked from."""
    needs = [WHOLE] * len(node.input)
    index = facts.constants.get(node.input[1]) if node.op_type == "Gather" and not node.domain else None
    rank = facts.rank(node.input[0]) if index is not None else 0
    if rank and index is not None and index.size == 1 and not index.any():
        needs[0] = _attribute(node, "axis", 0) % rank
    return needs


def _stretched(node: Any, axis: int, facts: _Facts, behind: int = 0) -> list[int] | None:
    """Every input at the same place, counted from the last axis; one that does not reach so far is stretched over it.

    So many axes `behind` follow rules of their own.
    """
    found = []
    for name in node.input:
        if name and name not in facts.dims:
            return None
        place = axis - facts.rank(node.output[0]) + facts.rank(name)
        stretched = place < 0 or place >= facts.rank(name) - behind or facts.dims[name][place] == 1
        found.append(WHOLE if stretched else place)
    return found


def _along(node: Any, axis: int, facts: _Facts) -> list[int] | None:
    """The first input, where what is mixed lies behind the axis."""
    mixed = _attribute(node, "axis", -1) % facts.rank(node.output[0])
    return [axis, *[WHOLE] * (len(node.input) - 1)] if mixed > axis else None


def _split(node: Any, axis: int, facts: _Facts) -> list[int] | None:
    """What is cut into parts, along another axis."""
    cut = _attribute(node, "axis", 0) % facts.rank(node.output[0])
    return [axis, *[WHOLE] * (len(node.input) - 1)] if cut != axis else None


def _product(node: Any, axis: int, facts: _Facts) -> list[int] | None:
    """Rows are the first factor's; columns are the second's; axes before them are stretched."""
    rank = facts.rank(node.output[0])
    first, second = map(facts.rank, node.input)
    if min(first, second) < 2 or axis == rank - 1:  # noqa: PLR2004 - matrices
        return None
    if axis == rank - 2:
        return [first - 2, WHOLE]
    return _stretched(node, axis, facts, behind=2)


def _transposed(node: Any, axis: int, facts: _Facts) -> list[int] | None:
    backwards = list(reversed(range(facts.rank(node.output[0]))))
    return [int(_attribute(node, "perm", backwards)[axis])]


def _reshaped(node: Any, axis: int, facts: _Facts) -> list[int] | None:
    """The same axis, where it and those before it stay as they are and the rest can be told without the positions' number."""
    before, after = (facts.dims.get(name, ()) for name in (node.input[0], node.output[0]))
    same = all(after[: axis + 1]) and before[: axis + 1] == after[: axis + 1]
    return [axis, WHOLE] if same and _rest(after, axis).count(-1) <= 1 else None


def _rest(dims: tuple[int | str, ...], axis: int) -> list[int]:
    """The sizes behind an axis, -1 where one is free."""
    return [size if isinstance(size, int) and size > 0 else -1 for size in dims[axis + 1 :]]


_RULES: dict[str, Callable[[Any, int, _Facts], list[int] | None]] = {
    **dict.fromkeys(_ALIKE, _stretched),
    **dict.fromkeys(_ALONG, _along),
    "MatMul": _product,
    "Reshape": _reshaped,
    "Split": _split,
    "Transpose": _transposed,
}


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _cut(graph: Any, needs: dict[str, int], facts: _Facts) -> None:
    """Before each node that computes one position, cut it out of those inputs that are there whole."""
    made_narrow: set[str] = set()
    cut: dict[tuple[str, int], str] = {}
    nodes: list[Any] = []
    for node in graph.node:
        asked = _narrowed(node, needs, facts)
        if asked is not None:
            for place, (name, axis) in enumerate(zip(node.input, asked, strict=True)):
                if axis != WHOLE and name not in made_narrow:
                    if (name, axis) not in cut:
                        cut[name, axis] = f"{name}.first{axis}"
                        nodes.append(_first(graph, name, axis, cut[name, axis]))
                    node.input[place] = cut[name, axis]
            if node.op_type == "Reshape":
                _copy_sizes(graph, node, needs[node.output[0]], facts)
            made_narrow.update(node.output)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _first(graph: Any, name: str, axis: int, output: str) -> Any:
    from onnx import helper

    bounds = [_constant(graph, f"first_position.{number}", [number]) for number in (0, 1)]
    return helper.make_node("Slice", [name, *bounds, _constant(graph, f"first_position.axis{axis}", [axis])], [output])


def _copy_sizes(graph: Any, node: Any, axis: int, facts: _Facts) -> None:
    """Let a Reshape take the sizes up to an axis from its input, instead of from the number of positions."""
    sizes = [*[0] * (axis + 1), *_rest(facts.dims[node.output[0]], axis)]
    node.input[1] = _constant(graph, f"{node.output[0]}.sizes", sizes)
    kept = [each for each in node.attribute if each.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _constant(graph: Any, name: str, numbers: list[int]) -> str:
    from onnx import numpy_helper

    if name not in {tensor.name for tensor in graph.initializer}:
        graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name
