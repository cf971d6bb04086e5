"""The one generation loop: it drives every decoder and owns the timestamps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends.base import Decoder


@dataclass(frozen=True)
class Generation:
    """Greedy output of one batch of requests.

    Attributes:
        tokens: output token ids, shape (batch, new).
        stamps_ns: the clock at the start and after each output token, length new + 1.
    """

    tokens: NDArray[np.int64]
    stamps_ns: tuple[int, ...]

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """Milliseconds of each token: the first is TTFT, the others are the inter-token gaps; their sum is E2E."""
        return tuple(float(gap) / 1e6 for gap in np.diff(self.stamps_ns))


def generate(decoder: Decoder, ids: NDArray[np.int64], mask: NDArray[np.int64], max_new_tokens: int) -> Generation:
    """Generate exactly `max_new_tokens` tokens greedily for prompts (batch, prompt), left-padded where mask is 0.

    An end-of-text token does not end a request: every variant is timed on the same number of tokens.
    """
    clock = decoder.clock_ns
    stamps = [clock()]
    tokens: list[NDArray[np.int64]] = []
    fed, past = ids, None
    one = np.ones((len(ids), 1), np.int64)
    for _ in range(max_new_tokens):
        logits, past = decoder.step(fed, mask, past)
        fed = logits[:, -1].argmax(axis=-1).astype(np.int64)[:, None]
        stamps.append(clock())
        tokens.append(fed)
        mask = np.concatenate([mask, one], axis=1)
    return Generation(np.concatenate(tokens, axis=1), tuple(stamps))


def negative_log_likelihood(
    decoder: Decoder, ids: NDArray[np.int64], mask: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score windows (batch, length): each token given those before it in its window, padding left out.

    Returns, for each window, the sum of -ln p over its scored tokens, and how many were scored.
    """
    logits, _ = decoder.step(ids, mask, None)
    scores = logits[:, :-1].astype(np.float64)
    target = ids[:, 1:]
    highest = scores.max(axis=-1, keepdims=True)
    log_total = np.log(np.exp(scores - highest).sum(axis=-1)) + highest[..., 0]
    chosen = np.take_along_axis(scores, target[..., None], axis=-1)[..., 0]
    scored = mask[:, :-1] * mask[:, 1:]
    return ((log_total - chosen) * scored).sum(axis=1), scored.sum(axis=1)
