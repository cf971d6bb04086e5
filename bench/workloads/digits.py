"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels that every installation has."""

import numpy as np

from .corpus import Corpus
from .data import Rows

_LARGEST = 16
"""Of a pixel."""


def handwritten_digits(trained_on: int | None, evaluated: int, seed: int) -> Corpus:
    """A seeded draw of so many digits to evaluate, and of the others so many to train on (None: all)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))
    values = (pixels.reshape(-1, 8, 8) / _LARGEST).astype(np.float32)
    digits = Rows(values=values, labels=tuple(str(label) for label in labels))
    return Corpus(digits.take(order[evaluated:][:trained_on]), digits.take(order[:evaluated]))
