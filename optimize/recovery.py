"""Recovery: a pruned module is taught again on the calibration examples; every technique that prunes offers it alike."""

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .batches import first_rows, row_count
from .cache import Tell
from .errors import ConfigError
from .loading import required_inputs, takes_by_name
from .losses import scores_of
from .model import Batch, Examples, Signature, TorchModel
from .recipe import StepConfig
from .training import Teacher, TrainingConfig, TrainingReport, epoch_steps, fit

_HELD_OUT = 0.2
_BATCH_SIZE = 32
_LEAST_PATIENCE = 5
_SCORED_ROWS = 512
"""Which units to take out is settled by so many rows; recovery learns from all."""


class RecoveryConfig(StepConfig):
    """How a step's result is taught again; the same for every technique that prunes."""

    recover_steps: int = Field(
        0,
        ge=0,
        description="train at most so many steps afterwards, on the calibration data, of which a fifth is held out: the "
        "weights that are best on it are kept, and two thirds of the epochs, at least five, without better ones end it",
    )
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of recovery")
    distil: float = Field(
        1.0,
        ge=0,
        le=1,
        description="weight in recovery's loss of the source model's scores; the rest is that of the calibration data's "
        "labels, of a generator the next tokens' (true is 1, false is 0)",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="by which scores are divided where they are learnt; higher shows more of unlikely classes",
    )
    seed: int = Field(0, ge=0, description="seed of recovery")


def need_calibration(technique: str, examples: Examples) -> None:
    """Check that there is something to learn from.

    Raises:
        ConfigError: there is not.
    """
    if not examples.calibration:
        raise ConfigError(
            f"{technique}, as it is configured here, learns from calibration data: "
            "set [workload] calibration to a file of it"
        )


def recovered(
    module: Any, source: TorchModel, config: RecoveryConfig, examples: Examples, tell: Tell
) -> dict[str, Any]:
    """Teach what a step has made of the source model, in place; for the record, what `recover_steps` brought.

    These are the steps taken and the held-out losses before and after: the last is the lowest, whose weights stay.
    Raises as `recover` does.
    """
    report = recover(module, source, config, examples, tell)
    after = min(report.validation_losses + ((report.untrained_loss,) if report.untrained_loss is not None else ()))
    return {"recovery_steps": report.steps, "held_out_losses": [report.untrained_loss, after]}


def recover(module: Any, source: TorchModel, config: RecoveryConfig, examples: Examples, tell: Tell) -> TrainingReport:
    """Train a module in place on the scores of the model that the build began with, on labels or next tokens, or on both.

    A fifth of the examples is held out and stops it early. The seed decides everything; torch's own generator is left as
    it was. How far it is is told at each percent.

    Raises:
        ConfigError: there are too few calibration examples, they differ in shape, their labels are missing, or every parameter
            of the module is frozen.
    """
    import torch

    signature, steps = source.signature, config.recover_steps
    arrays = _joined([arguments(module, signature, batch) for batch in examples.calibration])
    labels = _needed_labels(examples) if config.distil < 1 and signature.kind == "classifier" else None
    taught_by = source.module if source.original is None else source.original
    asked_once = AskedOnce(taught_by) if signature.kind == "classifier" else taught_by
    teacher = Teacher(asked_once, config.distil, config.temperature) if config.distil else None
    rows = row_count(arrays)
    training = rows - math.ceil(rows * _HELD_OUT)
    epochs = math.ceil(steps / max(1, epoch_steps(training, _BATCH_SIZE)))
    how = TrainingConfig(
        learning_rate=config.learning_rate,
        epochs=epochs,
        max_steps=steps,
        batch_size=_BATCH_SIZE,
        validation_share=_HELD_OUT,
        patience=_patience(epochs),
        seed=config.seed,
        threads=torch.get_num_threads(),
    )
    with torch.random.fork_rng(devices=[]):
        return fit(module, arrays, labels, how, _percents(tell), teacher)


def _patience(epochs: int) -> int:
    """How many epochs without lower held-out loss end a recovery.

    The rate rises, stays high and falls as a half cosine: what a gentle start reached is beaten again only when it has fallen.
    """
    return max(_LEAST_PATIENCE, math.ceil(2 * epochs / 3))


class AskedOnce:
    """A classifier in evaluation mode that is asked for each row once, however many epochs go over it; its scores are kept.

    A row is known by the bytes of its inputs. A generator's scores are too many to keep.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self._scores: dict[bytes, Any] = {}

    def __call__(self, **inputs: Any) -> Any:
        """The scores of the rows, shape (rows, classes) or (rows,)."""
        import torch

        keys = _row_keys([tensor.numpy() for tensor in inputs.values()])
        new = {key: place for place, key in enumerate(keys) if key not in self._scores}
        if new:
            places = list(new.values())
            scores = scores_of(self.module(**{name: tensor[places] for name, tensor in inputs.items()}))
            self._scores.update(zip(new, scores, strict=True))
        return torch.stack([self._scores[key] for key in keys])


def _row_keys(arrays: list[NDArray[Any]]) -> list[bytes]:
    """A digest of each row of arrays that share their first axis."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(len(arrays[0]))]
    for array in arrays:
        for digest, row in zip(digests, array, strict=True):
            digest.update(np.ascontiguousarray(row).tobytes())
    return [digest.digest() for digest in digests]


def learning_batches(module: Any, signature: Signature, examples: Examples) -> Iterator[tuple[dict[str, Any], Any]]:
    """The first 512 calibration rows as tensors by forward's names, batch by batch, each with its labels, or None where there are none."""
    import torch

    start = 0
    for batch in first_rows(examples.calibration, _SCORED_ROWS):
        arrays = arguments(module, signature, batch)
        stop = start + row_count(arrays)
        labels = examples.calibration_labels
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        yield tensors, None if labels is None else torch.tensor(labels[start:stop])
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
            "recovery with distil below 1 learns from the labels of the calibration data, and it has none; "
            "give labels, or leave distil = 1 to learn from the model's own scores"
        )
    return examples.calibration_labels


def _percents(tell: Tell) -> Callable[[float, str], None]:
    """What hears of every training step, and tells of each whole percent once."""
    told = -1

    def hear(share: float, text: str) -> None:
        nonlocal told
        if int(100 * share) > told:
            told = int(100 * share)
            tell(f"recovery {told} %, {text}")

    return hear
