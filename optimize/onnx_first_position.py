"""Let a graph compute one position only where its head reads no other: that of [CLS], in the last layer of a classifier.

A BERT-like classifier reads the first position of its last layer. That layer's keys and values come from all positions;
its queries, and all that follows the attention, are needed of the one that is read. The answers stay, up to rounding.

Needs run against the flow: from the node that picks position 0, upwards through operators that treat every position alike, to
values that another node needs whole. There the position is cut out, and every node below it computes that alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import BuildError
from .onnx_files import Dims, attributes_of, dims_of, nodes_of, weights_of

WHOLE = -1
"""The need of a value of which more than position 0 of one axis is read."""
Need = int | None
"""WHOLE, or an axis of which position 0 is read; None where nothing is."""

_OLDEST = 13
"""The opset from which Softmax keeps its input's shape, and every operator below takes what is read here."""
_ALIKE = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul"),
    *("Or", "Pow", "Sub", "Where", "Abs", "Cast", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
    *("Identity", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Sigmoid", "Softplus"),
    *("Sqrt", "Tanh"),
)
"""Operators that compute each number from those at the same place of their inputs, which are stretched where they are shorter."""
_ALONG = ("LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax")
"""Operators that mix the numbers of their `axis` and those behind it, or of it alone; the last one where it is not given."""
_REDUCING = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")


@dataclass(frozen=True)
class _Facts:
    """What is known of a graph's values: dimensions (sizes, or names of free ones) and the numbers of constants."""

    dims: dict[str, Dims]
    constants: dict[str, Any]

    def rank(self, name: str) -> int:
        """How many axes a value has; 0 where that is unknown, or it is one number."""
        return len(self.dims.get(name, ()))

    def numbers(self, node: Any, place: int) -> list[int]:
        """What a node is given at a place, where that is a constant; none where it is not, or nothing is given."""
        found = self.constants.get(node.input[place]) if place < len(node.input) else None
        return [] if found is None else [int(each) for each in found.ravel()]


def read_first_position(model: Any) -> int:
    """Change the graph in place; returns how many matrix products compute one position instead of all.

    The numbers of initializers are taken for constants, also where a caller might give others.

    Raises:
        BuildError: there is no such product, the opset is too old, or the model has graphs or functions within, of which it is
            not told here who reads what; the graph is as it was.
        InputError: a weight cannot be read.
    """
    opset = next((each.version for each in model.opset_import if not each.domain), 0)
    if opset < _OLDEST:
        raise BuildError(f"the graph is of opset {opset}; first-position knows {_OLDEST} and newer ones")
    if len(list(nodes_of(model))) != len(model.graph.node):
        raise BuildError("the model has graphs or functions within, in which it is not told who reads what")
    facts = _facts(model)
    needs = _needs(model.graph, facts)
    narrow = [node for node in model.graph.node if _narrowed(node, needs, facts)]
    products = [node for node in narrow if node.op_type == "MatMul"]
    if not products:
        raise BuildError("no matrix product computes positions that nothing reads")
    unread = [node for node in model.graph.node if not _is_read(node, needs)]
    stale = {name for node in (*narrow, *unread) for name in node.output}
    _cut(model.graph, needs, facts)
    kept = [value for value in model.graph.value_info if value.name not in stale]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return len(products)


def _facts(model: Any) -> _Facts:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    constants = dict(weights_of(model))
    noted = [
        each for each in (*graph.value_info, *graph.input, *graph.output) if each.type.tensor_type.HasField("shape")
    ]
    dims = {value.name: dims_of(value) for value in noted}
    return _Facts(dims | {name: array.shape for name, array in constants.items()}, constants)


def _needs(graph: Any, facts: _Facts) -> dict[str, int]:
    """Of each value that is read, the axis of which position 0 alone is needed, or WHOLE."""
    needs = {value.name: WHOLE for value in graph.output}
    for node in reversed(graph.node):
        if not _is_read(node, needs):
            continue
        asked = _narrowed(node, needs, facts) or _picked(node, facts)
        for name, need in zip(node.input, asked, strict=True):
            if name and need is not None:
                needs[name] = need if needs.get(name, need) == need else WHOLE
    return needs


def _is_read(node: Any, needs: dict[str, int]) -> bool:
    return any(name in needs for name in node.output)


def _narrowed(node: Any, needs: dict[str, int], facts: _Facts) -> Sequence[Need] | None:
    """What a node needs of its inputs where position 0 of several is needed of its answer; None where it computes all of it."""
    read = [name for name in node.output if name in needs]
    axes = {needs[name] for name in read}
    rule = _RULES.get(node.op_type) if not node.domain else None
    if rule is None or len(axes) != 1 or axes == {WHOLE} or not facts.rank(read[0]):
        return None
    if len(read) > 1 and node.op_type != "Split":
        return None
    (axis,) = axes
    return rule(node, axis, facts) if facts.dims[read[0]][axis] != 1 else None


def _picked(node: Any, facts: _Facts) -> Sequence[Need]:
    """What a node that computes its whole answer needs of its inputs: all, but of what position 0 is picked from."""
    needs: list[Need] = [WHOLE] * len(node.input)
    rank = facts.rank(node.input[0]) if node.input else 0
    if rank and not node.domain and node.op_type == "Gather":
        if facts.numbers(node, 1) == [0]:
            needs[0] = int(attributes_of(node).get("axis", 0)) % rank
    elif rank and not node.domain and node.op_type == "Slice":
        axes, steps = facts.numbers(node, 3), facts.numbers(node, 4)
        if len(axes) == 1 and (facts.numbers(node, 1), facts.numbers(node, 2), steps or [1]) == ([0], [1], [1]):
            needs[0] = axes[0] % rank
    return needs


def _stretched(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """Every input at the same place, counted from the last axis; one that does not reach so far is stretched over it."""
    found: list[Need] = []
    for name in node.input:
        if name and name not in facts.dims:
            return None
        place = axis - facts.rank(node.output[0]) + facts.rank(name)
        found.append(WHOLE if place < 0 or facts.dims[name][place] == 1 else place)
    return found


def _along(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """As `_stretched`, for a norm may have a scale for each position, where what is mixed lies behind the axis."""
    mixed = attributes_of(node).get("axis", -1) % facts.rank(node.output[0])
    return _stretched(node, axis, facts) if mixed > axis else None


def _reduced(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """The first input, where other axes are reduced and none is dropped."""
    axes = list(attributes_of(node).get("axes", facts.numbers(node, 1)))
    rank = facts.rank(node.output[0])
    alone = axes and axis not in {each % rank for each in axes} and attributes_of(node).get("keepdims", 1)
    return [axis, *[WHOLE] * (len(node.input) - 1)] if alone else None


def _split(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """What is cut into parts, along another axis."""
    cut = attributes_of(node).get("axis", 0) % facts.rank(node.input[0]) if facts.rank(node.input[0]) else axis
    return [axis, *[WHOLE] * (len(node.input) - 1)] if cut != axis else None


def _sliced(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """What is cut, along other axes."""
    axes = {each % facts.rank(node.output[0]) for each in facts.numbers(node, 3)}
    return [axis, *[WHOLE] * (len(node.input) - 1)] if axes and axis not in axes else None


def _joined(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """All parts, joined along another axis."""
    return [axis] * len(node.input) if attributes_of(node).get("axis", 0) % facts.rank(node.output[0]) != axis else None


def _product(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """Rows are the first factor's; columns are the second's; axes before them are stretched."""
    rank = facts.rank(node.output[0])
    first, second = map(facts.rank, node.input)
    if min(first, second) < 2 or axis == rank - 1:  # noqa: PLR2004 - matrices
        return None
    return [first - 2, WHOLE] if axis == rank - 2 else _stretched(node, axis, facts)


def _transposed(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    backwards = list(reversed(range(facts.rank(node.output[0]))))
    return [int(attributes_of(node).get("perm", backwards)[axis])]


def _reshaped(node: Any, axis: int, facts: _Facts) -> Sequence[Need] | None:
    """The same axis, where it and those before it stay as they are and the rest can be told without the positions' number.

    The sizes are not read any more (`_copy_sizes`).
    """
    before, after = (facts.dims.get(name, ()) for name in (node.input[0], node.output[0]))
    same = all(after[: axis + 1]) and before[: axis + 1] == after[: axis + 1]
    return [axis, None] if same and _rest(after, axis).count(-1) <= 1 else None


def _rest(dims: Dims, axis: int) -> list[int]:
    """The sizes behind an axis, -1 where one is free."""
    return [size if isinstance(size, int) and size > 0 else -1 for size in dims[axis + 1 :]]


_RULES: dict[str, Callable[[Any, int, _Facts], Sequence[Need] | None]] = {
    **dict.fromkeys(_ALIKE, _stretched),
    **dict.fromkeys(_ALONG, _along),
    **dict.fromkeys(_REDUCING, _reduced),
    "Concat": _joined,
    "MatMul": _product,
    "Reshape": _reshaped,
    "Slice": _sliced,
    "Split": _split,
    "Transpose": _transposed,
}


class _Additions:
    """What is put into a graph, under names that no value of it has."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self._taken |= {each.name for each in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)}
        self._constants: dict[tuple[int, ...], str] = {}

    def name(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted

    def constant(self, numbers: Sequence[int]) -> str:
        """The name of an initializer of these numbers, made once."""
        from onnx import numpy_helper

        key = tuple(numbers)
        if key not in self._constants:
            self._constants[key] = self.name("first_position." + ".".join(map(str, key)))
            tensor = numpy_helper.from_array(np.array(key, np.int64), self._constants[key])
            self._graph.initializer.append(tensor)
        return self._constants[key]


def _cut(graph: Any, needs: dict[str, int], facts: _Facts) -> None:
    """Before each node that computes one position, cut it out of those inputs that are there whole; drop what nothing reads."""
    additions = _Additions(graph)
    narrow: set[str] = set()
    cuts: dict[tuple[str, int], str] = {}
    nodes: list[Any] = []
    for node in [each for each in graph.node if _is_read(each, needs)]:
        asked = _narrowed(node, needs, facts)
        for place, axis in enumerate(asked or ()):
            whole = node.input[place]
            if axis is None or axis == WHOLE or whole in narrow:
                continue
            if (whole, axis) not in cuts:
                cuts[whole, axis] = additions.name(f"{whole}.first")
                nodes.append(_first(whole, axis, cuts[whole, axis], additions))
            node.input[place] = cuts[whole, axis]
        if asked is not None:
            narrow.update(node.output)
            if node.op_type == "Reshape":
                _copy_sizes(node, needs[node.output[0]], facts, additions)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _first(name: str, axis: int, output: str, additions: _Additions) -> Any:
    from onnx import helper

    return helper.make_node("Slice", [name, *(additions.constant([number]) for number in (0, 1, axis))], [output])


def _copy_sizes(node: Any, axis: int, facts: _Facts, additions: _Additions) -> None:
    """Let a Reshape take the sizes up to an axis from its input, instead of from the number of positions."""
    node.input[1] = additions.constant([*[0] * (axis + 1), *_rest(facts.dims[node.output[0]], axis)])
    kept = [each for each in node.attribute if each.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)
