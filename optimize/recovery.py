"""What a pruned module is taught again on the calibration examples, and how these become the arguments of its forward."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import row_count
from .errors import ConfigError
from .loading import required_inputs, takes_by_name
from .model import Batch, Examples, Signature
from .training import TrainingConfig, TrainingReport, fit

_HELD_OUT = 0.2
_BATCH_SIZE = 32
_PATIENCE = 5


def recover(
    module: Any,
    teacher: Any | None,
    signature: Signature,
    examples: Examples,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> TrainingReport:
    """Train a module in place for at most `steps` steps; a fifth of the examples is held out and stops it early.

    It learns its teacher's scores where there is a teacher, else the labels of the calibration data, or, where it is a
    generator, the next token. The seed decides everything; torch's own generator is left as it was.

    Raises:
        ConfigError: there are too few calibration examples, they differ in shape, or their labels are missing.
    """
    import torch

    arrays = _joined([arguments(module, signature, batch) for batch in examples.calibration])
    labels = _needed_labels(examples) if teacher is None and signature.kind == "classifier" else None
    rows = row_count(arrays)
    training = rows - math.ceil(rows * _HELD_OUT)
    config = TrainingConfig(
        learning_rate=learning_rate,
        epochs=math.ceil(steps / max(1, math.ceil(training / _BATCH_SIZE))),
        max_steps=steps,
        batch_size=_BATCH_SIZE,
        validation_share=_HELD_OUT,
        patience=_PATIENCE,
        seed=seed,
        threads=torch.get_num_threads(),
    )
    with torch.random.fork_rng(devices=[]):
        return fit(module, arrays, labels, config, _silent, teacher)


def learning_batches(module: Any, signature: Signature, examples: Examples) -> Iterator[tuple[dict[str, Any], Any]]:
    """The calibration batches as tensors by forward's names, each with its labels, or None where there are none."""
    import torch

    start = 0
    for batch in examples.calibration:
        arrays = arguments(module, signature, batch)
        stop = start + row_count(arrays)
        labels = examples.calibration_labels
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        yield tensors, None if labels is None else torch.from_numpy(labels[start:stop])
        start = stop


def arguments(module: Any, signature: Signature, batch: Batch) -> dict[str, NDArray[Any]]:
    """A batch under the names of forward's own parameters, in the types that a module in full precision takes.

    Raises:
        ConfigError: forward takes its inputs by position only.
    """
    given = tuple(spec.name for spec in signature.inputs)
    names = given if takes_by_name(module, given) else required_inputs(module)[: len(given)]
    if len(names) < len(given):
        raise ConfigError(
            f"learning from calibration data gives inputs by name, but forward names {len(names)} of {len(given)} "
            f"({', '.join(given)}); name every input in forward"
        )
    return {name: _array(batch[key]) for name, key in zip(names, given, strict=True)}


def _array(array: NDArray[Any]) -> NDArray[Any]:
    kinds = {"f": np.float32, "i": np.int64, "u": np.int64}
    return np.array(array, dtype=kinds.get(array.dtype.kind, array.dtype))


def _joined(batches: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """All rows together."""
    shapes = {tuple((name, array.shape[1:]) for name, array in batch.items()) for batch in batches}
    if len(shapes) > 1:
        raise ConfigError("recovery needs calibration batches of one shape; pad all of them to one length")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _needed_labels(examples: Examples) -> NDArray[np.int64]:
    if examples.calibration_labels is None:
        raise ConfigError(
            "recovery with distil = false learns from the labels of the calibration data, and it has none; "
            "give labels, or leave distil = true to learn from the model's own scores"
        )
    return examples.calibration_labels


def _silent(fraction: float, text: str) -> None:
    del fraction, text
