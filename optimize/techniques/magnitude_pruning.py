"""Magnitude pruning: the smallest weights become zero, anywhere or two of every four; shapes, bytes, dense speed stay."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..cache import Tell
from ..errors import BuildError
from ..model import Examples, Model, TorchModel
from ..recovery import RecoveryConfig, need_calibration, recovered
from . import StepResult, Technique

_RUN = 4
"""Of so many consecutive inputs the pattern 2:4 keeps half."""
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The weights that torch's attention has itself, joined or apart."""
_NO_PARAMETER = (
    "no parameter of its layer: a parametrization, or torch.nn.utils.prune, computes it at every call and undoes zeros"
)


class MagnitudePruning(RecoveryConfig):
    """Which share of the weights becomes zero, where, and how the rest is taught again afterwards."""

    use: ClassVar[str] = "magnitude-pruning"
    sparsity: float = Field(0.5, gt=0, lt=1, description="share of the weights that becomes zero, between 0 and 1")
    scope: Literal["layer", "global"] = Field(
        "layer", description="the same share of every weight matrix, or the smallest of all weights"
    )
    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured",
        description="zeros anywhere, or the smaller two of every four consecutive inputs (of a convolution: input channels)",
    )

    @model_validator(mode="after")
    def _half_of_every_four(self) -> Self:
        if self.pattern == "2:4" and (self.sparsity != 0.5 or self.scope != "layer"):  # noqa: PLR2004 - two of four
            raise ValueError(
                f'pattern = "2:4" zeroes half of every layer\'s weights; given sparsity = {self.sparsity:g}, '
                f'scope = "{self.scope}". Leave both out, or take pattern = "unstructured"'
            )
        return self


def calibrates(config: MagnitudePruning) -> bool:
    """Whether the step looks at calibration data."""
    return config.recover_steps > 0


def apply(model: Model, config: MagnitudePruning, examples: Examples, folder: Path, tell: Tell) -> StepResult:
    """Zero the smallest weights of a copy; embeddings (tied ones too), norms and biases stay as they are.

    So do weights that are no parameters themselves. Recovery leaves the zeros zero.

    Raises:
        ConfigError: recovery needs calibration data, and there is none that fits.
        BuildError: the model is no torch module, or has no layer to prune.
    """
    del folder
    if not isinstance(model, TorchModel):
        raise BuildError("magnitude-pruning prunes torch modules, not ONNX graphs")
    if calibrates(config):
        need_calibration("magnitude-pruning", examples)
    module = copy.deepcopy(model.module)
    matrices = tuple(weight_matrices(module))
    pruned = _zeroed(_needed(matrices), config)
    details = _told(pruned, [matrix for matrix in matrices if matrix not in pruned])
    if config.recover_steps:
        with _held_zeros(pruned):
            details |= recovered(module, model, config, examples, tell)
    return StepResult(replace(model, module=module), details)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight by its dotted name, and the axis along which its inputs lie."""

    name: str
    weight: Any
    input_axis: int

    @property
    def is_parameter(self) -> bool:
        """Whether it is kept as it is; what a parametrization computes anew at every look loses the zeros put into it."""
        import torch

        return isinstance(self.weight, torch.nn.Parameter)


def _needed(matrices: Sequence[Matrix]) -> list[Matrix]:
    """Those that zeros can be put into.

    Raises:
        BuildError: there is none.
    """
    found = [matrix for matrix in matrices if matrix.is_parameter]
    if found:
        return found
    if not matrices:
        raise BuildError("magnitude-pruning found no linear, convolution, attention or recurrent layer to prune")
    raise BuildError(
        f"magnitude-pruning found no weight to prune: each of {len(matrices)} ({matrices[0].name}, ...) is {_NO_PARAMETER}; "
        "make them parameters first, as torch.nn.utils.parametrize.remove_parametrizations does"
    )


def weight_matrices(module: Any) -> Iterator[Matrix]:
    """The weight matrices of linear, convolution, attention and recurrent layers, each once, embeddings left out."""
    import torch

    seen = {id(layer.weight) for layer in module.modules() if isinstance(layer, torch.nn.Embedding)}
    for name, layer in module.named_modules():
        for matrix in _matrices(name, layer):
            if not matrix.is_parameter:
                yield matrix
            elif id(matrix.weight) not in seen:
                seen.add(id(matrix.weight))
                yield matrix


def _matrices(name: str, layer: Any) -> list[Matrix]:
    import torch
    from transformers.pytorch_utils import Conv1D

    keys: tuple[str, ...] = ()
    if isinstance(layer, torch.nn.RNNBase):
        keys = tuple(key for key in layer._flat_weights_names if "weight" in key)  # noqa: SLF001 - torch has no public list of them
    elif isinstance(layer, torch.nn.MultiheadAttention):
        keys = _PROJECTIONS
    elif isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd | Conv1D):  # noqa: SLF001 - base of all convolutions
        keys = ("weight",)
    turned = isinstance(layer, Conv1D) or getattr(layer, "transposed", False)
    held = ((key, getattr(layer, key, None)) for key in keys)
    return [Matrix(f"{name}.{key}".lstrip("."), value, 0 if turned else 1) for key, value in held if value is not None]


def _zeroed(found: Sequence[Matrix], config: MagnitudePruning) -> list[Matrix]:
    """Zero what the config asks for; the matrices in which that was done.

    Raises:
        BuildError: the pattern fits none of them.
    """
    if config.pattern == "2:4":
        fitting = [matrix for matrix in found if matrix.weight.shape[matrix.input_axis] % _RUN == 0]
        if not fitting:
            raise BuildError(
                f"magnitude-pruning 2:4 found no weight whose inputs are a multiple of four among {len(found)}; "
                'take pattern = "unstructured"'
            )
        for matrix in fitting:
            _prune_two_of_four(matrix)
        return fitting
    weights = [matrix.weight for matrix in found]
    for together in [weights] if config.scope == "global" else [[weight] for weight in weights]:
        _prune_together(together, round(config.sparsity * sum(weight.numel() for weight in together)))
    return list(found)


def _prune_together(weights: list[Any], count: int) -> None:
    """Zero the `count` smallest of all these weights; weights of the same size go in their order."""
    import torch

    flat = torch.cat([weight.detach().abs().flatten() for weight in weights])
    kept: Any = torch.ones_like(flat, dtype=torch.bool)
    kept[flat.argsort(stable=True)[:count]] = False
    for weight, keep in zip(weights, kept.split([weight.numel() for weight in weights]), strict=True):
        weight.data.mul_(keep.view_as(weight))


def _prune_two_of_four(matrix: Matrix) -> None:
    """Zero the smaller two of every four consecutive inputs of each output (of a kernel: at each place); the first of equals.

    The pattern is that of NVIDIA's sparse tensor cores and of its pruning tool ASP (Mishra and others, 2021).
    """
    rows = matrix.weight.data.movedim(matrix.input_axis, -1)
    runs = rows.reshape(-1, _RUN)
    smallest = runs.abs().argsort(dim=1, stable=True)[:, : _RUN // 2]
    rows.copy_(runs.scatter(1, smallest, 0).view(rows.shape))


def _told(pruned: Sequence[Matrix], left: Sequence[Matrix]) -> dict[str, Any]:
    """For the record: how many weights, the share of zeros in all and in each layer, and the layers left with the reason."""
    total = sum(matrix.weight.numel() for matrix in pruned)
    zeros = {matrix.name: int((matrix.weight == 0).sum()) for matrix in pruned}
    details: dict[str, Any] = {
        "weights_pruned": total,
        "weight_matrices": len(pruned),
        "sparsity": sum(zeros.values()) / total,
        "layers": {matrix.name: zeros[matrix.name] / matrix.weight.numel() for matrix in pruned},
    }
    if left:
        details["layers_left"] = {matrix.name: _why_left(matrix) for matrix in sorted(left, key=lambda each: each.name)}
    return details


def _why_left(matrix: Matrix) -> str:
    if not matrix.is_parameter:
        return _NO_PARAMETER
    return f"{matrix.weight.shape[matrix.input_axis]} inputs, no multiple of {_RUN}"


@contextlib.contextmanager
def _held_zeros(pruned: Sequence[Matrix]) -> Iterator[None]:
    """While the block trains, weights that are zero get no gradient, and so stay zero."""

    def without_zeros(weight: Any) -> Callable[[Any], Any]:
        kept = weight.detach() != 0
        return lambda gradient: gradient * kept

    trained = (matrix.weight for matrix in pruned if matrix.weight.requires_grad)
    handles = [weight.register_hook(without_zeros(weight)) for weight in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


TECHNIQUE = Technique("magnitude-pruning", MagnitudePruning, "module", apply, needs_calibration=calibrates, tells=True)
