"""How the next token of a request is chosen: the likeliest one, or one drawn by numbers that every variant shares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Choose = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""From the logits of a place, shape (batch, vocabulary), and its number to the token of each request, shape (batch,)."""


def greedy(logits: NDArray[np.float32], place: int) -> NDArray[np.int64]:
    """The likeliest token of each request; of several the first."""
    del place
    return np.asarray(logits.argmax(axis=-1), dtype=np.int64)


@dataclass(frozen=True)
class Drawn:
    """Draws each token where the uniform number of its request and place falls in the cumulated probabilities.

    Tokens are cumulated in the order of their ids, so that variants with nearly the same probabilities mostly draw the same
    token from the same number, and what differs between them is theirs and not the draw's.

    Attributes:
        uniforms: in [0, 1), shape (batch, places).
        temperature: logits are divided by it.
        top_k: only so many likeliest tokens (and those as likely as the last of them); 0: all.
        top_p: then only the fewest likeliest tokens that together have this probability.
    """

    uniforms: NDArray[np.float64]
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __call__(self, logits: NDArray[np.float32], place: int) -> NDArray[np.int64]:
        """Draw the token of each request."""
        cumulated = np.cumsum(self._probabilities(logits), axis=-1)
        drawn = self.uniforms[:, place, None] * cumulated[:, -1:]
        return np.asarray((cumulated <= drawn).sum(axis=-1), dtype=np.int64)

    def _probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of every token, shape (batch, vocabulary); 0 for those that are left out."""
        scaled = logits.astype(np.float64) / self.temperature
        if 0 < self.top_k < scaled.shape[-1]:
            least = np.partition(scaled, -self.top_k, axis=-1)[:, -self.top_k, None]
            scaled[scaled < least] = -np.inf
        shares: NDArray[np.float64] = np.exp(log_probabilities(scaled))
        if self.top_p < 1:
            order = np.argsort(-shares, axis=-1, kind="stable")
            ordered = np.take_along_axis(shares, order, axis=-1)
            before = np.cumsum(ordered, axis=-1) - ordered
            np.put_along_axis(shares, order, np.where(before < self.top_p, ordered, 0.0), axis=-1)
        return shares


def log_probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Logits (..., vocabulary) as log-probabilities, in double precision; -inf stays what it is."""
    lowered = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = lowered - np.log(np.exp(lowered).sum(axis=-1, keepdims=True))
    return found


def uniforms(seed: int, requests: int, places: int) -> NDArray[np.float64]:
    """The numbers in [0, 1) of every request and place, shape (requests, places): the same whoever asks."""
    return np.stack([np.random.default_rng([seed, request]).random(places) for request in range(requests)])
