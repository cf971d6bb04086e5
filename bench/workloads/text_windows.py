"""Cut a token stream into prompts to time and windows to score."""

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError

PROMPTS = 64
WINDOW = 128
WINDOWS = 64
LEAST_WINDOWS = 2


def prompts_of(ids: NDArray[np.int64], length: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Up to 64 prompts of exactly `length` tokens from random places, shape (prompts, length).

    Raises:
        InputError: the text is shorter than one prompt.
    """
    if len(ids) < length:
        raise InputError(
            f"the text has {len(ids)} tokens, fewer than one prompt of {length}; give more text or a shorter prompt"
        )
    starts = random.integers(0, len(ids) - length + 1, PROMPTS)
    return np.stack([ids[start : start + length] for start in starts])


def windows_of(ids: NDArray[np.int64], positions: int | None, most: int | None) -> NDArray[np.int64]:
    """Up to 64 windows of 128 tokens (fewer where the model has fewer positions), spread evenly, without overlap.

    Raises:
        InputError: the text is shorter than two windows.
    """
    size = min(WINDOW, positions or WINDOW)
    count = min(len(ids) // size, WINDOWS, most or WINDOWS)
    if count < LEAST_WINDOWS:
        raise InputError(
            f"the text has {len(ids)} tokens; perplexity needs at least {LEAST_WINDOWS} windows of {size}. Give more text."
        )
    starts = np.linspace(0, len(ids) // size - 1, count).astype(int) * size
    return np.stack([ids[start : start + size] for start in starts])
