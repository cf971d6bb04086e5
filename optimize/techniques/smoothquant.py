"""SmoothQuant (Xiao and others, 2022, arXiv:2211.10438): outlier channels of activations are scaled down, weights up.

The scales go into the norm before the linear layers, so that the module computes what it did: for static INT8 after it, whose
one range for all channels of an activation is otherwise spent on a few of them. Only a norm that nothing but linear layers read
can take them: those of pre-norm models (GPT-2, Llama), not BERT's, whose output goes into the residual sum too.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ..batches import first_rows
from ..errors import BuildError, ConfigError
from ..model import Examples, Model, TorchModel
from ..recipe import StepConfig
from ..recovery import arguments
from ..smoothing import Pair, find_pairs, fold, peaks, reading_peaks
from . import StepResult, Technique


class SmoothQuant(StepConfig):
    """How far the difficulty moves from activations to weights."""

    use: ClassVar[str] = "smoothquant"
    alpha: float = Field(
        0.5, ge=0, le=1, description="0 evens out the weights' channels alone, 1 the activations' alone"
    )
    samples: int = Field(256, ge=1, description="use at most so many calibration examples")


def apply(model: Model, config: SmoothQuant, examples: Examples, folder: Path) -> StepResult:
    """Fold the scales into a copy of the module.

    The scale of channel j is max|X_j|^alpha / max|W_j|^(1 - alpha): X what the calibration data make of the norm's output, W
    the weights that read it. A channel that is all zero on either side keeps its scale.

    Raises:
        ConfigError: there is no calibration data.
        BuildError: the model is no torch module, or has no norm that only linear layers read.
    """
    import torch

    del folder
    if not isinstance(model, TorchModel):
        raise BuildError("smoothquant changes torch modules; put it before the steps on ONNX graphs")
    if not examples.calibration:
        raise ConfigError("smoothquant needs calibration data: set [workload] calibration to a file of it")
    module = copy.deepcopy(model.module)
    inputs = _inputs(model, examples, config.samples)
    first = next(inputs)
    with torch.no_grad():
        pairs = find_pairs(module, lambda: module(**first))
        if not pairs:
            raise BuildError(
                "smoothquant found no foldable pair: no norm's output goes into linear layers alone. "
                "Models that normalize after the residual sum (BERT) have none; leave the step out"
            )
        with peaks(module, pairs) as seen:
            module(**first)
            for given in inputs:
                module(**given)
        largest = max(_folded(module, pair, seen[pair.norm], config.alpha) for pair in pairs)
    details = {
        "pairs_folded": {pair.norm: [reader.name for reader in pair.readers] for pair in pairs},
        "largest_scale": largest,
    }
    return StepResult(replace(model, module=module), details)


def _inputs(model: TorchModel, examples: Examples, samples: int) -> Iterator[dict[str, Any]]:
    """The calibration batches as tensors by forward's names."""
    import torch

    for batch in first_rows(examples.calibration, samples):
        arrays = arguments(model.module, model.signature, batch)
        yield {name: torch.from_numpy(array) for name, array in arrays.items()}


def _folded(module: Any, pair: Pair, activations: Any, alpha: float) -> float:
    """Fold one pair's scales, and give the largest of them; rows of zeros on either side are left as they are."""
    import torch

    weights = reading_peaks(module, pair)
    scales = activations**alpha / weights ** (1 - alpha)
    scales = torch.where((activations > 0) & (weights > 0), scales, torch.ones_like(scales))
    fold(module, pair, scales)
    return float(scales.max())


TECHNIQUE = Technique("smoothquant", SmoothQuant, "module", apply, exact=True, needs_calibration=True)
