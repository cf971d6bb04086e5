"""Batches as models and calibration take them: counted, cut, and in the data types that a graph wants."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .model import Batch


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
