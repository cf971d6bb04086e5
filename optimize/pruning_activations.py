"""How much each unit of a group matters by what it says: the mean size of its output on real inputs."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .pruning_layers import is_convolution
from .pruning_plan import Group, Member
from .pruning_scores import Scores

_OWN = re.compile(r"weight_hh_l(\d+)")
"""The weight by which a recurrent layer reads its own units."""


def activations(module: Any, groups: Sequence[Group], batches: Iterable[tuple[dict[str, Any], Any]]) -> Scores:
    """Mean absolute output of each unit, over the rows, positions and places of all batches of (inputs, labels or None).

    A unit's output is what its readers are given (after the activation function, batch norm or gate); of a recurrent
    layer it is the hidden state. Where a unit has several entries (a head's) or readers, it is the mean over all of them.
    Positions that an attention mask leaves out do not count.
    """
    import torch

    means = {group.name: _Mean(group.size) for group in groups}
    with torch.no_grad():
        for inputs, _ in batches:
            with _watched(module, groups, means, inputs.get("attention_mask")):
                module(**inputs)
    return {name: mean.total / mean.count for name, mean in means.items()}


@dataclass
class _Mean:
    """A running mean of the size of `size` units' outputs."""

    size: int
    count: int = 0
    total: Any = field(default=0)

    def add(self, outputs: Any, width: int, mask: Any | None) -> None:
        """Count outputs of shape (rows, ..., units x width); of (rows, positions, ...) those that the mask leaves in."""
        if mask is not None and outputs.shape[:-1] == mask.shape:
            outputs = outputs[mask.bool()]
        each = outputs.abs().double().reshape(-1, self.size, width)
        self.total = self.total + each.sum(dim=(0, 2))
        self.count += each.shape[0] * width


@contextlib.contextmanager
def _watched(module: Any, groups: Sequence[Group], means: dict[str, _Mean], mask: Any | None) -> Iterator[None]:
    """While the block runs, each group's mean is told of what its units say."""
    handles = [handle for group in groups for handle in _watch(module, group, means[group.name], mask)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(module: Any, group: Group, mean: _Mean, mask: Any | None) -> Iterator[Any]:
    readers = [member for member in group.members if member.reads]
    own = next((member for member in readers if _OWN.search(member.tensor)), None)
    if own is not None:
        yield _owner(module, own).register_forward_hook(_on_states(own, mean))
        return
    for reader in readers:
        yield _owner(module, reader).register_forward_pre_hook(_on_inputs(reader, mean, mask))


def _owner(module: Any, member: Member) -> Any:
    return module.get_submodule(member.tensor.rpartition(".")[0])


def _on_inputs(reader: Member, mean: _Mean, mask: Any | None) -> Callable[[Any, Any], None]:
    def hook(layer: Any, given: Any) -> None:
        outputs = given[0].movedim(1, -1) if is_convolution(layer) else given[0]
        mean.add(outputs, reader.width, mask)

    return hook


def _on_states(own: Member, mean: _Mean) -> Callable[[Any, Any, Any], None]:
    number = int(_OWN.findall(own.tensor)[0])

    def hook(layer: Any, given: Any, output: Any) -> None:
        del output
        mean.add(_states(layer, given[0], number), 1, None)

    return hook


def _states(recurrent: Any, inputs: Any, number: int) -> Any:
    """The hidden states of layer `number` of a recurrent module: those that a module of its first layers alone gives."""
    import torch

    options = {"nonlinearity": recurrent.nonlinearity} if isinstance(recurrent, torch.nn.RNN) else {}
    first = type(recurrent)(
        recurrent.input_size,
        recurrent.hidden_size,
        number + 1,
        bias=recurrent.bias,
        batch_first=recurrent.batch_first,
        **options,
    )
    names = dict(first.named_parameters())
    first.load_state_dict({name: tensor for name, tensor in recurrent.state_dict().items() if name in names})
    return first.eval()(inputs)[0]
