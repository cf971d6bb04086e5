"""Whether a model answers the same batch in the same way twice: one that draws lots cannot be judged on one answer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends.base import Decoder, Predictor
from ..optimize.errors import BuildError

ROUNDING = 0.01
"""Half precision may round an output by 1/256 otherwise when sums are taken in another order; dropout moves it by far more."""


def need_repeatable(opened: Predictor | Decoder, batch: Any, *, decoder: bool) -> None:
    """Answer one batch twice and compare: a predictor's own tensors, or the ids and mask of a decoder's prompts.

    Raises:
        BuildError: an answer moved by more than rounding may, a hundredth of the largest; the text says by how much.
    """
    for first, again in zip(_answers(opened, batch, decoder), _answers(opened, batch, decoder), strict=True):
        moved = _moved(first, again)
        if moved > ROUNDING:
            raise BuildError(
                f"its answers to the same batch differ from call to call (by {moved:.2g} of the largest): it is not "
                "deterministic; look for dropout or sampling that was left on"
            )


def _answers(opened: Any, batch: Any, decoder: bool) -> list[NDArray[Any]]:
    if decoder:
        return [opened.step(batch["input_ids"], batch["attention_mask"], None)[0]]
    return list(opened.arrays(opened.infer(batch)).values())


def _moved(first: NDArray[Any], again: NDArray[Any]) -> float:
    """The largest difference as a share of the largest number; what is NaN or infinite must be so both times."""
    finite = np.isfinite(first)
    if first.shape != again.shape or (finite != np.isfinite(again)).any():
        return float("inf")
    before, after = first[finite].astype(np.float64), again[finite].astype(np.float64)
    largest = float(np.abs(before).max(initial=0.0)) or 1.0
    return float(np.abs(before - after).max(initial=0.0)) / largest
