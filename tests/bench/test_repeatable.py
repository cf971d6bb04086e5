"""Answers that differ from call to call: found, and told from rounding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.bench.repeatable import need_repeatable
from weighbridge.optimize.errors import BuildError

BATCH = {"input_ids": np.zeros((1, 2), np.int64), "attention_mask": np.ones((1, 2), np.int64)}


class Scripted:
    """A predictor and decoder that gives the answers it was given, one after the other."""

    def __init__(self, *answers: Sequence[float]) -> None:
        self.answers = [np.array(answer, np.float32) for answer in answers]

    def infer(self, batch: Any) -> NDArray[np.float32]:
        del batch
        return self.answers.pop(0)

    def arrays(self, outputs: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        return {"scores": outputs}

    def step(self, ids: Any, mask: Any, past: Any) -> tuple[NDArray[np.float32], Any]:
        del mask, past
        return self.infer(ids), None


@pytest.mark.parametrize("decoder", [False, True])
def test_other_answers_to_the_same_batch_are_refused(decoder: bool) -> None:
    """A score that moves by a quarter of the largest is told with that share, of a classifier and of a generator."""
    with pytest.raises(BuildError, match=r"differ from call to call \(by 0.25 of the largest\).*dropout or sampling"):
        need_repeatable(Scripted([1, 4], [2, 4]), BATCH, decoder=decoder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "again", [[1.0, 4.0, np.nan, -np.inf], [1.03, 4.0, np.nan, -np.inf]], ids=["equal", "rounding"]
)
def test_equal_answers_and_rounding_are_allowed(again: list[float]) -> None:
    """What moves by less than a hundredth of the largest is rounding; NaN and infinite in both are the same."""
    need_repeatable(Scripted([1.0, 4.0, np.nan, -np.inf], again), BATCH, decoder=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("again", [[1.0, np.nan], [1.0, 4.0, 4.0]], ids=["finite", "shape"])
def test_answers_of_another_kind_are_refused(again: list[float]) -> None:
    """A number that becomes NaN and a shape that changes are not the same answer."""
    with pytest.raises(BuildError, match="differ from call to call"):
        need_repeatable(Scripted([1.0, 4.0], again), BATCH, decoder=False)  # type: ignore[arg-type]
