"""Batches as models and calibration take them: counted, cut, and in the data types that a graph wants."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, InputError
from .model import Batch, Signature


def row_count(batch: Batch) -> int:
    """How many rows a batch has."""
    return len(next(iter(batch.values())))


def first_rows(batches: Iterable[Batch], count: int) -> list[Batch]:
    """The first batches, the last one cut, that hold `count` rows together."""
    taken: list[Batch] = []
    left = count
    for batch in batches:
        if left > 0:
            taken.append({name: array[:left] for name, array in batch.items()})
            left -= row_count(taken[-1])
    return taken


def calibration_batches(batches: Sequence[Batch], samples: int, signature: Signature, step: str) -> list[Batch]:
    """The first batches that hold `samples` rows together, the last one cut; whole ones alone where the model's batch is fixed.

    Raises:
        ConfigError: the batch is fixed, and none of its size is among them.
    """
    taken = first_rows(batches, samples)
    size = next((spec.fixed_batch for spec in signature.inputs if spec.fixed_batch is not None), None)
    if size is None:
        return taken
    whole = [batch for batch in taken if row_count(batch) == size]
    if not whole:
        raise ConfigError(
            f"step '{step}': the model takes batches of {size} rows only, and there is none among the first "
            f"{min(samples, sum(map(row_count, batches)))} calibration rows; give at least {size}, and samples of at least {size}"
        )
    return whole


def holds_tokens(batch: Batch) -> bool:
    """Whether every input is whole numbers of rank two: token ids, masks and the like, whose second axis is the sequence."""
    return all(array.ndim == 2 and array.dtype.kind in "iu" for array in batch.values())  # noqa: PLR2004 - batch, sequence


def need_inputs(batch: Batch, names: Iterable[str]) -> None:
    """Hold a batch to the inputs of a model.

    Raises:
        InputError: the batch lacks one of them.
    """
    missing = [name for name in names if name not in batch]
    if missing:
        raise InputError(f"the model's input '{missing[0]}' is not in the data; it has: {', '.join(batch)}")


def positions_of(mask: NDArray[np.int64], new: int) -> NDArray[np.int64]:
    """Positions of the last `new` tokens, counted from the mask (batch, past + new), so that left padding takes none."""
    positions: NDArray[np.int64] = np.maximum(mask.cumsum(axis=1)[:, -new:] - 1, 0)
    return positions


def as_types(batch: Batch, dtypes: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays that `dtypes` names, contiguous and of those numpy types; others are left out."""
    return {name: np.ascontiguousarray(batch[name], dtype=dtype) for name, dtype in dtypes.items()}
