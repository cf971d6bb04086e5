"""Find removable units in a module's traced graph: from a layer, along what treats each unit alone, to its readers.

Where the way meets a sum (a residual connection), the layers that make what is added lose the same units together. Where it
meets anything else (a norm over units, the output, the module's own input in a sum), they are left as they are.
"""

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import first_line
from .pruning_layers import (
    Piece,
    batch_norm,
    grouped,
    is_convolution,
    is_recurrent,
    layer_of,
    recurrent_layer,
    recurrent_reads,
)
from .pruning_plan import Group

_ACTIVATIONS = frozenset(
    {"ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Hardswish"}
    | {"Hardsigmoid", "Hardtanh", "Softplus", "Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"}
)
_POOLS = frozenset(f"{kind}Pool{rank}d" for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax") for rank in (1, 2, 3))
_FUNCTIONS = frozenset(
    ("relu", "relu_", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "hardswish", "dropout")
)
_SUMS = frozenset(("add", "iadd", "add_"))
_METHODS = frozenset(("relu", "tanh", "sigmoid", "contiguous", "clone", "detach"))
_POOL_FUNCTIONS = frozenset(f"{kind}_pool{rank}d" for kind in ("max", "avg", "adaptive_avg") for rank in (1, 2, 3))

Layout = Literal["last", "channel", "flat"]
"""Where the units lie: on the last axis, on axis 1 of several, or flattened from there, each in one stretch."""


class _NotSureError(Exception):
    """The way from a layer to its readers meets what may mix its units."""


def traced_groups(module: Any) -> tuple[tuple[Group, ...], str]:
    """The groups of a module that can be traced; otherwise none, with the reason."""
    import torch

    try:
        graph = torch.fx.symbolic_trace(module).graph
    except Exception as error:  # noqa: BLE001 - tracing runs the user's forward on stand-ins: anything may be raised
        return (), f"its forward cannot be traced ({first_line(error)})"
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found: list[Group] = []
    for node in graph.nodes:
        if node.op == "call_module" and not _is_made(str(node.target), found):
            try:
                found += _groups_of(node, module, calls)
            except _NotSureError:
                continue  # left as it is
    return tuple(found), ""


def _is_made(layer: str, groups: list[Group]) -> bool:
    """Whether a layer's units belong to a group already, that of a layer whose units are added to them."""
    made = {member.tensor for group in groups for member in group.members if not member.reads}
    return f"{layer}.weight" in made


def _groups_of(node: Any, module: Any, calls: Counter[Any]) -> list[Group]:
    name = str(node.target)
    part = module.get_submodule(name)
    layer = layer_of(name, part)
    if layer is not None:
        way = _Way(module, calls, layer.outputs)
        way.start(node)
        way.need_whole_sums()
        return [grouped("channels" if is_convolution(part) else "units", name, layer.outputs, way.pieces)]
    if is_recurrent(part) and len(node.args) == 1 and not node.kwargs:
        way = _Way(module, calls, part.hidden_size)
        way.need_single(name)
        way.follow_recurrent(node, has_cell=type(part).__name__ == "LSTM")
        way.need_whole_sums()
        return _recurrent_groups(name, part, way.pieces)
    return []


def _recurrent_groups(name: str, part: Any, readers: list[Piece]) -> list[Group]:
    """A group a layer: all of a module's layers have one size, but each keeps the units that it needs."""
    groups = []
    for number in range(part.num_layers):
        pieces = recurrent_layer(name, part, number)
        last = number + 1 == part.num_layers
        groups.append(grouped("units", f"{name}.l{number}", part.hidden_size, [*pieces, *(readers if last else ())]))
    return groups


@dataclass
class _Way:
    """The way from one layer's `size` units to all that read them.

    `pieces` are those found so far; `layouts` are the values that hold the units, by their nodes.
    """

    module: Any
    calls: Counter[Any]
    size: int
    pieces: list[Piece] = field(default_factory=list)
    layouts: dict[Any, Layout] = field(default_factory=dict)

    def start(self, node: Any) -> None:
        """Set out from a layer that makes the units."""
        if node in self.layouts:
            return
        name = str(node.target)
        part = self.module.get_submodule(name)
        layer = layer_of(name, part)
        if layer is None or layer.outputs != self.size:
            raise _NotSureError
        self.need_single(name)
        self.pieces.append(layer.makes())
        self.follow(node, "channel" if is_convolution(part) else "last")

    def need_single(self, name: str) -> None:
        """A layer that is called twice reads or makes other units too."""
        if self.calls[name] != 1:
            raise _NotSureError

    def follow(self, node: Any, layout: Layout) -> None:
        """Go on to every user of a value that holds the units, once."""
        if node in self.layouts:
            if self.layouts[node] != layout:
                raise _NotSureError
            return
        self.layouts[node] = layout
        if not node.users:
            raise _NotSureError
        for user in node.users:
            if _is_sum(user):
                self._join(user, layout)
            elif not user.args or user.args[0] is not node or node in (*user.args[1:], *user.kwargs.values()):
                raise _NotSureError
            else:
                self._pass(user, layout)

    def _join(self, total: Any, layout: Layout) -> None:
        """What is added up holds the units on all sides: set out from the other sides' makers too, and go on."""
        for side in total.args:
            for maker in self._makers(side):
                self.start(maker)
        self.follow(total, layout)

    def _makers(self, node: Any) -> Iterator[Any]:
        """The nearest layers, upwards from a value, that may have made its units; whether they did, the way down shows."""
        part = self.module.get_submodule(node.target) if node.op == "call_module" else None
        if layer_of("", part) is not None:
            yield node
        elif node.op not in ("call_module", "call_function", "call_method") or is_recurrent(part):
            raise _NotSureError
        else:
            for side in node.args if _is_sum(node) else node.args[:1]:
                if not hasattr(side, "op"):
                    raise _NotSureError
                yield from self._makers(side)

    def need_whole_sums(self) -> None:
        """Every side of every sum on the way has been met, with the units where the sum has them."""
        for total in (node for node in self.layouts if _is_sum(node)):
            if any(self.layouts.get(side) != self.layouts[total] for side in total.args):
                raise _NotSureError

    def follow_recurrent(self, node: Any, *, has_cell: bool) -> None:
        """Go on from (states, hidden) or (states, (hidden, cell)); of the hidden states only the last layer's counts."""
        for user in node.users:
            if not _is_item(user):
                raise _NotSureError
            if user.args[1] == 1:
                self._follow_hidden(user, nested=has_cell)
            elif user.users:
                self.follow(user, "last")
        if not self.pieces:
            raise _NotSureError

    def _follow_hidden(self, node: Any, *, nested: bool) -> None:
        for user in node.users:
            if not _is_item(user) or (not nested and user.args[1] != -1):
                raise _NotSureError
            if nested and user.args[1] == 0:
                self._follow_hidden(user, nested=False)
            elif nested:
                _need_unused(user)
            else:
                self.follow(user, "last")

    def _pass(self, user: Any, layout: Layout) -> None:
        if user.op == "call_module":
            self._pass_module(user, layout)
        elif user.op == "call_function":
            self._pass_function(user, layout)
        elif user.op == "call_method":
            self._pass_method(user, layout)
        else:
            raise _NotSureError

    def _pass_module(self, user: Any, layout: Layout) -> None:
        name = str(user.target)
        part = self.module.get_submodule(name)
        kind = type(part).__name__ if type(part).__module__.startswith("torch.nn.modules") else ""
        if kind in _ACTIVATIONS or (kind in _POOLS and layout == "channel"):
            self.follow(user, layout)
        elif kind == "Flatten" and (part.start_dim, part.end_dim) == (1, -1):
            self.follow(user, _flattened(layout))
        elif kind.startswith("BatchNorm") and part.num_features == self.size and layout != "flat":
            self.need_single(name)
            self.pieces.append(batch_norm(name, part))
            self.follow(user, layout)
        else:
            self._end_at(name, part, layout)

    def _end_at(self, name: str, part: Any, layout: Layout) -> None:
        """A layer that reads the units."""
        self.need_single(name)
        layer = layer_of(name, part)
        if layer is not None and is_convolution(part) == (layout == "channel"):
            width, rest = divmod(layer.inputs, self.size)
            if rest == 0 and (width == 1 or layout == "flat"):
                self.pieces.append(layer.reads(width))
                return
        if is_recurrent(part) and layout == "last" and part.input_size == self.size:
            self.pieces.append(recurrent_reads(name))
            return
        raise _NotSureError

    def _pass_function(self, user: Any, layout: Layout) -> None:
        if _is_shape(user):
            _need_batch_size(user)
        elif _treats_units_alone(user, layout):
            self.follow(user, layout)
        elif getattr(user.target, "__name__", "") == "flatten" and _from_first_axis(user):
            self.follow(user, _flattened(layout))
        else:
            raise _NotSureError

    def _pass_method(self, user: Any, layout: Layout) -> None:
        if user.target in _METHODS:
            self.follow(user, layout)
        elif _is_batch_size(user):
            return
        elif user.target in ("view", "reshape") and layout == "channel" and _keeps_batch(user):
            self.follow(user, "flat")
        elif user.target == "flatten" and _from_first_axis(user):
            self.follow(user, _flattened(layout))
        elif user.target == "mean" and layout == "channel" and user.args[1:] == ((2, 3),) and not user.kwargs:
            self.follow(user, "last")
        else:
            raise _NotSureError


def _is_sum(node: Any) -> bool:
    """Whether it adds two values of the graph."""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    values = all(hasattr(side, "op") for side in node.args)
    return name in _SUMS and len(node.args) == 2 and values and not node.kwargs  # noqa: PLR2004 - two sides


def _treats_units_alone(user: Any, layout: Layout) -> bool:
    """Whether a function is an activation, a pooling over channels, or an index that leaves the units' axis alone."""
    if _is_item(user):
        return layout == "last" and _keeps_last_axis(user.args[1])
    name = getattr(user.target, "__name__", "")
    return name in _FUNCTIONS or (name in _POOL_FUNCTIONS and layout == "channel")


def _from_first_axis(user: Any) -> bool:
    """Whether it flattens all axes after the batch."""
    return bool(user.args[1:] == (1,) and not user.kwargs) or (len(user.args) == 1 and user.kwargs == {"start_dim": 1})


def _flattened(layout: Layout) -> Layout:
    return "flat" if layout == "channel" else layout


def _is_item(user: Any) -> bool:
    return user.op == "call_function" and user.target is operator.getitem


def _keeps_last_axis(index: Any) -> bool:
    """Whether an index leaves the last axis of (batch, sequence, units) alone: x[:, -1] or x[:, -1, :]."""
    if not isinstance(index, tuple) or not all(isinstance(each, int | slice) for each in index):
        return False
    return len(index) <= 2 or (len(index) == 3 and index[2] == slice(None))  # noqa: PLR2004 - batch, sequence, units


def _is_shape(user: Any) -> bool:
    return user.op == "call_function" and user.target is getattr and user.args[1] == "shape"


def _need_batch_size(shape: Any) -> None:
    if not all(_is_item(user) and user.args[1] == 0 for user in shape.users):
        raise _NotSureError


def _is_batch_size(user: Any) -> bool:
    """x.size(0) or x.shape[0]."""
    if user.op == "call_method":
        return bool(user.target == "size" and user.args[1:] == (0,) and not user.kwargs)
    return _is_item(user) and _is_shape(user.args[0]) and bool(user.args[1] == 0)


def _keeps_batch(user: Any) -> bool:
    """Whether a view is (batch, -1)."""
    shape = user.args[1:]
    return len(shape) == 2 and shape[1] == -1 and hasattr(shape[0], "op") and _is_batch_size(shape[0])  # noqa: PLR2004 - batch, rest


def _need_unused(node: Any) -> None:
    if node.users:
        raise _NotSureError
