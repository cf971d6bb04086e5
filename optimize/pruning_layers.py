"""Which tensors of a layer hold the units that it makes, and which hold the weights by which it reads another's."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .pruning_plan import Group, Member, Target

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class Piece:
    """What one layer adds to a group: tensors, and attributes that state a size with a unit's share of it."""

    members: tuple[Member, ...]
    counts: tuple[tuple[str, int], ...]


def grouped(target: Target, name: str, size: int, pieces: Iterable[Piece]) -> Group:
    """The group of these pieces."""
    given = list(pieces)
    members = tuple(member for piece in given for member in piece.members)
    return Group(target, name, size, members, tuple(count for piece in given for count in piece.counts))


@dataclass(frozen=True)
class Layer:
    """A linear layer (torch's, or the transposed Conv1D of GPT-2) or an ungrouped convolution, by its dotted name."""

    name: str
    inputs: int
    outputs: int
    output_axis: int
    biased: bool
    counts: tuple[str, str]

    def makes(self, width: int = 1, blocks: int = 1) -> Piece:
        """Its outputs, each unit `width` of them in each of `blocks` blocks."""
        members = [Member(f"{self.name}.weight", self.output_axis, width, blocks)]
        if self.biased:
            members.append(Member(f"{self.name}.bias", 0, width, blocks))
        return Piece(tuple(members), ((f"{self.name}.{self.counts[1]}", width * blocks),))

    def reads(self, width: int = 1) -> Piece:
        """Its inputs, each unit `width` of them."""
        member = Member(f"{self.name}.weight", 1 - self.output_axis, width, reads=True)
        return Piece((member,), ((f"{self.name}.{self.counts[0]}", width),))


def layer_of(name: str, module: Any) -> Layer | None:
    """The layer that a module is, or None where it is none of those."""
    import torch
    from transformers.pytorch_utils import Conv1D

    biased = getattr(module, "bias", None) is not None
    if type(module) is torch.nn.Linear:
        return Layer(name, module.in_features, module.out_features, 0, biased, ("in_features", "out_features"))
    if type(module) is Conv1D:
        return Layer(name, module.nx, module.nf, 1, biased, ("nx", "nf"))
    if is_convolution(module) and module.groups == 1:
        return Layer(name, module.in_channels, module.out_channels, 0, biased, ("in_channels", "out_channels"))
    return None


def is_convolution(module: Any) -> bool:
    """Whether it is a convolution of torch, not a transposed one."""
    import torch

    return type(module) in (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


def batch_norm(name: str, module: Any) -> Piece:
    """The numbers that a batch norm keeps of each unit."""
    tensors = ("weight", "bias", "running_mean", "running_var")
    members = tuple(Member(f"{name}.{each}", 0) for each in tensors if getattr(module, each) is not None)
    return Piece(members, ((f"{name}.num_features", 1),))


def is_recurrent(module: Any) -> bool:
    """Whether it is an LSTM, GRU or RNN of one direction whose output is its hidden state."""
    import torch

    plain = type(module) in (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN)
    return plain and not module.bidirectional and not module.proj_size


def recurrent_layer(name: str, module: Any, number: int) -> tuple[Piece, ...]:
    """The hidden units of one layer: the rows of its gates, and the columns by which it and the next layer read them."""
    blocks = _GATES[type(module).__name__]
    rows = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))
    made = tuple(Member(f"{name}.{each}_l{number}", 0, blocks=blocks) for each in rows)
    own = Member(f"{name}.weight_hh_l{number}", 1, reads=True)
    pieces = (Piece((*made, own), ((f"{name}.hidden_size", 1),)),)
    if number + 1 == module.num_layers:
        return pieces
    return (*pieces, Piece((Member(f"{name}.weight_ih_l{number + 1}", 1, reads=True),), ()))


def recurrent_reads(name: str) -> Piece:
    """The inputs of a recurrent module."""
    return Piece((Member(f"{name}.weight_ih_l0", 1, reads=True),), ((f"{name}.input_size", 1),))
