"""Structured pruning: heads, feed-forward and hidden units, channels and layers are taken out of the weights themselves."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..cache import Tell
from ..errors import BuildError, first_line
from ..model import Batch, Examples, Model, TorchModel
from ..parity import compare, open_model, outputs_of
from ..pruning_activations import activations
from ..pruning_groups import find_groups, layer_list
from ..pruning_plan import Change, Group, Target, cache_after, entries, replay
from ..pruning_scores import Scores, magnitudes, taylor
from ..recovery import RecoveryConfig, learning_batches, need_calibration, recovered
from . import StepResult, Technique

_SAME = 1e-4
"""Units taken out and units never read may differ by this share of the largest output: by rounding."""


class StructuredPruning(RecoveryConfig):
    """What is taken out and by which score, and how the rest is taught again afterwards."""

    use: ClassVar[str] = "structured-pruning"
    ratio: float = Field(
        0.3, gt=0, le=0.95, description="share of the units of every layer that is removed; never more than this"
    )
    targets: tuple[Target, ...] | None = Field(
        None,
        min_length=1,
        description="what is removed: ffn, heads, units (of linear and recurrent layers), channels, layers; "
        "default: all that the model has, except whole layers",
    )
    score: Literal["magnitude", "taylor", "activation"] = Field(
        "magnitude",
        description="remove the units of smallest weights, or, on the calibration data, those that the loss misses least "
        "(taylor) or whose outputs are smallest in the mean (activation)",
    )


def calibrates(config: StructuredPruning) -> bool:
    """Whether the step looks at calibration data."""
    return config.score != "magnitude" or config.recover_steps > 0


def apply(model: Model, config: StructuredPruning, examples: Examples, folder: Path, tell: Tell) -> StepResult:
    """Take units out of a copy, check that this is the same as never reading them, and recover.

    Raises:
        ConfigError: the score or recovery needs calibration data, and there is none that fits.
        BuildError: the model is no torch module or has nothing that can surely be removed.
    """
    del folder
    if not isinstance(model, TorchModel):
        raise BuildError("structured-pruning prunes torch modules, not ONNX graphs")
    if calibrates(config):
        need_calibration("structured-pruning", examples)
    before = _parameters(model.module)
    pruned, reason = _without_layers(model, config)
    pruned, reason = _without_units(pruned, config, examples, reason)
    changes = pruned.changes[len(model.changes) :]
    if not changes:
        raise BuildError(f"structured-pruning removed nothing: {reason}")
    details: dict[str, Any] = {
        "parameters_removed": before - _parameters(pruned.module),
        "kept": {change["group"]: [len(change["kept"]), change["size"]] for change in changes},
    }
    left = set(config.targets or ()) - {change["target"] for change in changes}
    if left:
        details["targets_left"] = sorted(left)
    if config.recover_steps:
        details |= recovered(pruned.module, model, config, examples, tell)
    return StepResult(pruned, details)


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _kept_count(size: int, ratio: float) -> int:
    """How many of `size` stay: all but the whole part of the share, and one at least."""
    return max(1, size - int(round(size * ratio, 6)))


def _changed(model: TorchModel, changes: Sequence[Change]) -> TorchModel:
    """A copy of the model with changes made, and its cache described anew."""
    module = copy.deepcopy(model.module)
    replay(module, changes)
    signature = replace(model.signature, cache=cache_after(model.signature.cache, changes))
    return replace(model, module=module, signature=signature, changes=(*model.changes, *changes))


def _without_layers(model: TorchModel, config: StructuredPruning) -> tuple[TorchModel, str]:
    """Leave out whole layers, evenly spaced, the first one kept."""
    if "layers" not in (config.targets or ()):
        return model, ""
    name = layer_list(model.module)
    if name is None:
        return model, "it has no list of equal transformer layers"
    size = len(model.module.get_submodule(name))
    count = _kept_count(size, config.ratio)
    if count == size:
        return model, f"{config.ratio:g} of {size} layers is less than one; raise ratio"
    kept = [place * size // count for place in range(count)]
    change = {"kind": "layers-kept", "group": name, "target": "layers", "size": size, "kept": kept}
    return _changed(model, [change]), ""


def _without_units(
    model: TorchModel, config: StructuredPruning, examples: Examples, reason: str
) -> tuple[TorchModel, str]:
    """Take out the units of lowest score; the reason says why nothing was, where nothing was."""
    found, untraced = find_groups(model.module)
    wanted = [group for group in found if config.targets is None or group.target in config.targets]
    chosen = [group for group in wanted if _kept_count(group.size, config.ratio) < group.size]
    if not chosen:
        return model, reason or _nothing(config, wanted, untraced)
    scores = _scores(model, chosen, config, examples)
    kept = {group.name: _best(scores[group.name], _kept_count(group.size, config.ratio)) for group in chosen}
    pruned = _changed(model, [group.keeping(kept[group.name]) for group in chosen])
    _need_same(_unread(model, chosen, kept), pruned, examples.probes or examples.calibration[:1])
    return pruned, ""


def _nothing(config: StructuredPruning, wanted: Sequence[Group], untraced: str) -> str:
    if wanted:
        largest = max(group.size for group in wanted)
        return f"{config.ratio:g} of at most {largest} units a layer is less than one; raise ratio"
    targets = ", ".join(config.targets) if config.targets else "ffn, heads, units or channels"
    return (
        f"no {targets} whose every reader is known were found"
        f"{'; ' + untraced if untraced else ''}. Known are transformer blocks, and layers that read each other "
        "through activations, pooling, batch norm, flattening"
    )


def _scores(model: TorchModel, groups: Sequence[Group], config: StructuredPruning, examples: Examples) -> Scores:
    if config.score == "magnitude":
        return magnitudes(model.module, groups)
    module = copy.deepcopy(model.module)
    batches = learning_batches(module, model.signature, examples)
    return (taylor if config.score == "taylor" else activations)(module, groups, batches)


def _best(scores: Any, count: int) -> list[int]:
    """The places of the `count` highest scores, in their order; of equal ones the first."""
    order = scores.argsort(descending=True, stable=True)[:count]
    return sorted(int(place) for place in order)


def _unread(model: TorchModel, groups: Sequence[Group], kept: dict[str, list[int]]) -> TorchModel:
    """A copy in which the weights that read the removed units are zero."""
    import torch

    module = copy.deepcopy(model.module)
    weights = dict(module.named_parameters())
    for group in groups:
        removed = sorted(set(range(group.size)) - set(kept[group.name]))
        for member in (each for each in group.members if each.reads):
            index = torch.tensor(entries(removed, group.size, member))
            weights[member.tensor].data.index_fill_(member.axis, index, 0)
    return replace(model, module=module)


def _need_same(masked: TorchModel, pruned: TorchModel, batches: Sequence[Batch]) -> None:
    """Hold the pruned module to one that has the units but does not read them.

    Raises:
        BuildError: they answer otherwise, so that something else depends on the units.
    """
    if not batches:
        return
    wanted = outputs_of(open_model(masked), masked.signature, batches)
    try:
        outputs = outputs_of(open_model(pruned), pruned.signature, batches)
    except Exception as error:
        raise BuildError(
            f"structured-pruning: the model cannot be run without the units ({first_line(error)}); name other targets"
        ) from error
    difference = compare(wanted, outputs).max_relative
    if not difference <= _tolerance(pruned.module):
        raise BuildError(
            f"structured-pruning: without the units the outputs differ by {difference:.2g} of the largest from those "
            "where nothing reads them, so something else depends on them; name other targets"
        )


def _tolerance(module: Any) -> float:
    import torch

    dtype = next(parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    return max(_SAME, 8 * float(torch.finfo(dtype).eps))


TECHNIQUE = Technique(
    "structured-pruning", StructuredPruning, "module", apply, needs_calibration=calibrates, tells=True
)
