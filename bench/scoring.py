"""A generator's likelihoods on given text: of its tokens, and of every token that might come next."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends.base import Decoder
from ..optimize.errors import BuildError
from .choosing import log_probabilities
from .workloads.base import batches

_TOKENS_AT_ONCE = 512
_MOST_PLACES = 256
_MOST_BYTES = 32 * 2**20
"""Next-token distributions of a variant are held in memory until all are compared."""


def score(decoder: Decoder, arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Score every window: input_ids, attention_mask and scored, each of shape (windows, size).

    Returns the summed -ln p of the scored tokens of each window, shape (windows,), and the log-probabilities of every token at
    the places of `places_of`, shape (places, vocabulary).
    """
    size = arrays["input_ids"].shape[1]
    at_once = max(1, _TOKENS_AT_ONCE // size)
    likelihoods, distributions, places = [], [], None
    for number, batch in enumerate(batches(dict(arrays), at_once)):
        logits, _ = decoder.step(batch["input_ids"], batch["attention_mask"], None)
        if places is None:
            places = places_of(arrays["scored"], logits.shape[-1])
        inside = (places[:, 0] >= number * at_once) & (places[:, 0] < (number + 1) * at_once)
        rows, columns = places[inside].T
        distributions.append(log_probabilities(logits[rows - number * at_once, columns - 1]).astype(np.float32))
        likelihoods.append(negative_log_likelihood(logits, batch["input_ids"], batch["scored"]))
    return np.concatenate(likelihoods), np.concatenate(distributions)


def negative_log_likelihood(
    logits: NDArray[np.float32], ids: NDArray[np.int64], scored: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The sum of -ln p over the scored tokens of each window, shape (windows,), each given those before it.

    Args:
        logits: of every place, shape (windows, size, vocabulary).
        ids: the tokens, shape (windows, size).
        scored: 1 where a token counts, shape (windows, size); never the first of a window.
    """
    found = np.empty(len(ids))
    for window, (scores, tokens, counts) in enumerate(zip(logits, ids, scored, strict=True)):
        chosen = np.flatnonzero(counts)
        before = log_probabilities(scores[chosen - 1])
        found[window] = -before[np.arange(len(chosen)), tokens[chosen]].sum()
    return found


def places_of(scored: NDArray[np.int64], vocabulary: int) -> NDArray[np.int64]:
    """The places whose next-token distributions are compared: window and token, shape (places, 2), in order.

    Spread evenly over the scored tokens, the same number in every window as far as it has so many; at most 256, and at most
    32 MB of distributions: fewer for a large vocabulary, and then not of every window.
    """
    most = max(1, min(_MOST_PLACES, _MOST_BYTES // (4 * vocabulary)))
    windows = np.unique(np.linspace(0, len(scored) - 1, min(most, len(scored))).astype(np.int64))
    each = max(1, most // len(windows))
    found = []
    for window in windows:
        tokens = np.flatnonzero(scored[window])
        count = min(each, len(tokens))
        # The middles of equal stretches: a single place is not the first token, which has least before it.
        chosen = ((np.arange(count) + 0.5) * len(tokens) / count).astype(np.int64)
        found += [(window, token) for token in tokens[chosen]]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def divergences(baseline: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(baseline || candidate) in nats of each pair of log-probabilities (places, vocabulary); shape (places,).

    A token that the baseline rules out adds nothing. Rounding may bring a divergence of nothing below 0; it is 0 then.

    Raises:
        BuildError: the two are not over the same places and tokens.
    """
    if baseline.shape != candidate.shape:
        of_each = [
            f"a vocabulary of {tokens} at {places} places" for places, tokens in (candidate.shape, baseline.shape)
        ]
        raise BuildError(
            f"its next tokens are over {of_each[0]}, the baseline's over {of_each[1]}: they cannot be compared token by token; give a "
            "model with the baseline's vocabulary, or weigh this one in a run of its own"
        )
    found = []
    for ours, theirs in zip(baseline.astype(np.float64), candidate.astype(np.float64), strict=True):
        chances = np.exp(ours)
        further = np.subtract(ours, theirs, out=np.zeros_like(ours), where=chances > 0)
        found.append(float((chances * further).sum()))
    return np.maximum(np.array(found, dtype=np.float64), 0.0, dtype=np.float64)
