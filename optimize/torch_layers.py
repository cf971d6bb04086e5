"""Layers of a torch module by their dotted names: chosen to be quantized, made ready for it, and put in place."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import BuildError
from .onnx_layers import Layer, need_layers


@dataclass(frozen=True)
class Taken:
    """The layers that a step quantizes, and those that it could but was told to leave."""

    layers: tuple[Layer, ...]
    excluded: tuple[Layer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The dotted names of the layers that are quantized."""
        return tuple(layer.name for layer in self.layers)

    def details(self) -> dict[str, Any]:
        """For the record: how many of each class were replaced, which, and which were left."""
        return {
            "modules_replaced": dict(sorted(Counter(layer.op_type for layer in self.layers).items())),
            "layers_quantized": list(self.names),
            "layers_excluded": [layer.name for layer in self.excluded],
        }


def to_quantize(module: Any, exclude: Sequence[str], step: str, *, recurrent: bool) -> Taken:
    """Choose the layers of a float module that a step quantizes: the linear ones, and recurrent ones where it can.

    Raises:
        ConfigError: `exclude` names a layer that is none of them.
        BuildError: none is left.
    """
    found = [Layer(name, type(layer).__name__, _weights(layer)) for name, layer in _candidates(module, recurrent)]
    need_layers(exclude, found, step)
    excluded = tuple(layer for layer in found if layer.name in exclude)
    layers = tuple(layer for layer in found if layer.name not in exclude)
    if not layers:
        kinds = "Linear, LSTM and GRU layers" if recurrent else "Linear layers"
        there = Counter(type(each).__name__ for each in module.modules() if not any(each.children()))
        listed = ", ".join(f"{count} {name}" for name, count in sorted(there.items()))
        raise BuildError(f"{step} replaced no layer; it replaces {kinds} inside a module; the module has {listed}")
    return Taken(layers, excluded)


def _candidates(module: Any, recurrent: bool) -> Iterator[tuple[str, Any]]:
    import torch
    from transformers.pytorch_utils import Conv1D

    for name, layer in module.named_modules(remove_duplicate=False):
        linear = type(layer) in (torch.nn.Linear, Conv1D)
        plain = type(layer) in (torch.nn.LSTM, torch.nn.GRU) and layer.bias and not layer.proj_size
        if name and (linear or (recurrent and plain)):
            yield name, layer


def _weights(layer: Any) -> int:
    return sum(value.numel() for name, value in layer.named_parameters() if "weight" in name)


def put(module: Any, name: str, layer: Any) -> None:
    """Put a layer in the place of the one of that name."""
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, layer)


def copy_with_linear(module: Any, names: Iterable[str]) -> Any:
    """A copy whose layers of these names are torch's own, the transposed Conv1D of GPT-2 replaced by the linear layer that it is.

    A layer in two places becomes two with one weight: quantizers replace a layer in the first of its places only.
    """
    copied = copy.deepcopy(module)
    for name in names:
        put(copied, name, as_linear(copy.copy(copied.get_submodule(name))))
    call_every_layer(copied)
    return copied


def as_linear(layer: Any) -> Any:
    """The linear layer that a Conv1D is, its weight turned round; any other layer as it is."""
    import torch
    from transformers.pytorch_utils import Conv1D

    if not isinstance(layer, Conv1D):
        return layer
    linear = torch.nn.Linear(layer.nx, layer.nf, device="meta")
    linear.weight = torch.nn.Parameter(layer.weight.detach().T.contiguous(), requires_grad=False)
    linear.bias = layer.bias
    return linear.eval()


def call_every_layer(module: Any) -> None:
    """Have torch's transformer encoders call their linear layers, in place, instead of one kernel that reads float weights."""
    import torch

    for part in module.modules():
        if isinstance(part, torch.nn.TransformerEncoder):
            part.use_nested_tensor = False
        elif isinstance(part, torch.nn.TransformerEncoderLayer):
            part.activation_relu_or_gelu = 0
