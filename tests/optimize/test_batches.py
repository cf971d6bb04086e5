"""Batches are counted and cut as models take them."""

from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.batches import calibration_batches, holds_tokens
from weighbridge.optimize.errors import ConfigError
from weighbridge.optimize.model import Batch, Signature, TensorSpec


def batches(*sizes: int) -> tuple[Batch, ...]:
    return tuple({"x": np.zeros((size, 3), np.float32)} for size in sizes)


def taking(*shape: int | str) -> Signature:
    return Signature("classifier", (TensorSpec("x", "float32", shape),), ("y",))


@pytest.mark.parametrize(
    ("signature", "samples", "taken"),
    [
        (taking("batch", 3), 300, [8, 8, 4]),
        (taking("batch", 3), 10, [8, 2]),
        (taking(8, 3), 300, [8, 8]),
        (taking(8, 3), 10, [8]),
        (taking(4, 3), 300, [4]),
    ],
)
def test_a_fixed_batch_is_calibrated_on_whole_batches(signature: Signature, samples: int, taken: list[int]) -> None:
    """A model of free batch takes the last one cut; one of a fixed batch takes those of its size alone."""
    found = calibration_batches(batches(8, 8, 4), samples, signature, "static-int8")
    assert [len(batch["x"]) for batch in found] == taken


@pytest.mark.parametrize(("sizes", "samples", "rows"), [((4,), 300, 4), ((8, 8), 7, 7)])
def test_without_a_whole_batch_it_is_said_what_lacks(sizes: tuple[int, ...], samples: int, rows: int) -> None:
    """Too few rows, and too few of them taken, are an error of the config that names the step and the size."""
    words = (
        f"step 'nncf-int8': the model takes batches of 8 rows only, and there is none among the first {rows} calibration "
        "rows; give at least 8, and samples of at least 8"
    )
    with pytest.raises(ConfigError, match=words):
        calibration_batches(batches(*sizes), samples, taking(8, 3), "nncf-int8")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((2, 5), np.int64), True),
        (np.zeros((2, 5), np.uint8), True),
        (np.zeros((2, 5), np.float32), False),
        (np.zeros((2, 5, 3), np.int64), False),
        (np.zeros((2, 5), bool), False),
    ],
)
def test_tokens_are_whole_numbers_of_rank_two(array: Any, expected: bool) -> None:
    """One input of another kind or rank, and the batch is none of tokens."""
    ids = np.ones((2, 5), np.int64)
    assert holds_tokens({"ids": ids, "x": array}) is expected
