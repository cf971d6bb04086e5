"""How much each unit of a group matters: by the size of its weights, or by what the loss would lose with it."""

from collections.abc import Iterable, Sequence
from typing import Any

from .losses import is_single, label_loss, next_token_loss, scores_of
from .pruning_plan import Group, Member

Scores = dict[str, Any]
"""A score a unit, shape (size,), by group name; the lowest matter least."""


def magnitudes(module: Any, groups: Sequence[Group]) -> Scores:
    """The L2 norm of all weights of a unit, over all tensors that hold it."""
    weights = dict(module.named_parameters())
    found: Scores = {}
    for group in groups:
        held = [member for member in group.members if member.tensor in weights]
        squares = [_by_unit(weights[member.tensor].detach().float() ** 2, group, member) for member in held]
        found[group.name] = sum(squares) ** 0.5
    return found


def taylor(module: Any, groups: Sequence[Group], batches: Iterable[tuple[dict[str, Any], Any]]) -> Scores:
    """First-order Taylor importance (Molchanov and others, 2019): how the loss changes as a unit fades out.

    The loss's derivative by a factor on the unit is the sum, over the weights that read it, of weight times gradient; the
    score is the root of its mean square over the batches of (inputs, labels or None). The module is the caller's copy: all its
    weights are made to have gradients, frozen ones too.
    """
    import torch

    weights = dict(module.named_parameters())
    for weight in weights.values():
        weight.requires_grad_(weight.is_floating_point())
    readers = {group.name: [member for member in group.members if member.reads] for group in groups}
    totals: Scores = {group.name: torch.zeros(group.size) for group in groups}
    for inputs, labels in batches:
        module.zero_grad(set_to_none=True)
        _loss(scores_of(module(**inputs)), inputs, labels).backward()
        for group in groups:
            products = (
                _by_unit(weights[each.tensor].detach() * weights[each.tensor].grad, group, each)
                for each in readers[group.name]
            )
            totals[group.name] += sum(products) ** 2
    module.zero_grad(set_to_none=True)
    return {name: total**0.5 for name, total in totals.items()}


def _by_unit(tensor: Any, group: Group, member: Member) -> Any:
    """Sum a tensor over everything but the units; shape (size,)."""
    parts = tensor.movedim(member.axis, 0).reshape(member.blocks, group.size, member.width, -1)
    return parts.sum(dim=(0, 2, 3))


def _loss(scores: Any, inputs: dict[str, Any], labels: Any | None) -> Any:
    """Cross-entropy with the labels, or with the answers that the model itself gives; of a generator, the next token's."""
    if scores.ndim == 3:  # noqa: PLR2004 - rows, positions, vocabulary
        return next_token_loss(scores, inputs)
    if labels is None:
        labels = scores.reshape(-1) > 0 if is_single(scores) else scores.argmax(dim=-1)
    return label_loss(scores, labels)
