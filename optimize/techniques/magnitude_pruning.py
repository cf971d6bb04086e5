"""Unstructured magnitude pruning: the smallest weights become zero; shapes, and so bytes and dense speed, stay."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..errors import BuildError
from ..model import Examples, Model, TorchModel
from ..recipe import StepConfig
from . import StepResult, Technique


class MagnitudePruning(StepConfig):
    """Which share of the weights becomes zero, chosen in each weight matrix by itself or over all of them."""

    use: ClassVar[str] = "magnitude-pruning"
    sparsity: float = Field(0.5, gt=0, lt=1, description="share of the weights that becomes zero, between 0 and 1")
    scope: Literal["layer", "global"] = Field(
        "layer", description="the same share of every weight matrix, or the smallest of all weights"
    )


def apply(model: Model, config: MagnitudePruning, examples: Examples, folder: Path) -> StepResult:
    """Zero the smallest weights of a copy; embeddings (tied ones too), norms and biases stay as they are.

    Raises:
        BuildError: the model is no torch module, or has no layer to prune.
    """
    del examples, folder
    if not isinstance(model, TorchModel):
        raise BuildError("magnitude-pruning prunes torch modules, not ONNX graphs")
    module = copy.deepcopy(model.module)
    weights = list(prunable(module))
    if not weights:
        raise BuildError("magnitude-pruning found no linear, convolution, attention or recurrent layer to prune")
    total = sum(weight.numel() for weight in weights)
    if config.scope == "global":
        _prune_together(weights, round(config.sparsity * total))
    else:
        for weight in weights:
            _prune_together([weight], round(config.sparsity * weight.numel()))
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    details = {"weights_pruned": total, "weight_matrices": len(weights), "sparsity": zeros / total}
    return StepResult(replace(model, module=module), details)


def prunable(module: Any) -> Iterator[Any]:
    """The weight matrices of linear, convolution, attention and recurrent layers, each once, embeddings left out."""
    import torch

    seen = {id(layer.weight) for layer in module.modules() if isinstance(layer, torch.nn.Embedding)}
    for layer in module.modules():
        for weight in _matrices(layer):
            if id(weight) not in seen:
                seen.add(id(weight))
                yield weight.data


def _matrices(layer: Any) -> list[Any]:
    import torch
    from transformers.pytorch_utils import Conv1D

    if isinstance(layer, torch.nn.RNNBase | torch.nn.MultiheadAttention):
        return [value for name, value in layer.named_parameters(recurse=False) if "weight" in name]
    if isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd | Conv1D):  # noqa: SLF001 - base of all convolutions
        return [layer.weight]
    return []


def _prune_together(weights: list[Any], count: int) -> None:
    """Zero the `count` smallest of all these weights; weights of the same size go in their order."""
    import torch

    flat = torch.cat([weight.abs().flatten() for weight in weights])
    kept: Any = torch.ones_like(flat, dtype=torch.bool)
    kept[flat.argsort(stable=True)[:count]] = False
    for weight, keep in zip(weights, kept.split([weight.numel() for weight in weights]), strict=True):
        weight.mul_(keep.view_as(weight))


TECHNIQUE = Technique("magnitude-pruning", MagnitudePruning, "module", apply)
