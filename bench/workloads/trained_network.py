"""What the built-in workloads share whose model is a network of this package with trained weights: how it is kept and described."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...optimize.loading import describe
from ...optimize.source import Task
from .builtin import Made
from .corpus import Corpus

MOST_STEPS = 3000
"""Some minutes: of a large data set of a user's own a few passes are enough."""
_CALIBRATION = 1000
_WEIGHTS = "model.safetensors"


def keep_weights(module: Any, folder: Path) -> None:
    """Save a trained network where `made_of` finds it."""
    from safetensors.torch import save_model

    save_model(module, str(folder / _WEIGHTS))


def made_of(
    network: Callable[..., Any],
    arguments: Mapping[str, int],
    task: Task,
    folder: Path,
    corpus: Corpus,
    seed: int,
    tokenizer: str | None = None,
) -> Made:
    """The workload of a network, called with `arguments`, whose weights are in the folder; calibrated on rows of the corpus."""
    return Made(
        source=describe(
            "module",
            f"{network.__module__}:{network.__name__}",
            task,
            weights=str(folder / _WEIGHTS),
            arguments=arguments,
        ),
        evaluation=corpus.evaluation,
        calibration=corpus.calibration(_CALIBRATION, seed),
        class_names=corpus.class_names,
        tokenizer=tokenizer,
    )
