"""The one generation loop: it drives every decoder and owns the timestamps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends.base import Decoder
from .choosing import Choose, greedy


@dataclass(frozen=True)
class Generation:
    """Output of one batch of requests.

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


def generate(
    decoder: Decoder,
    ids: NDArray[np.int64],
    mask: NDArray[np.int64],
    max_new_tokens: int,
    choose: Choose = greedy,
) -> Generation:
    """Generate exactly `max_new_tokens` tokens for prompts (batch, prompt), left-padded where mask is 0.

    An end-of-text token does not end a request: every variant is timed on the same number of tokens.
    """
    clock = decoder.clock_ns
    stamps = [clock()]
    tokens: list[NDArray[np.int64]] = []
    fed, past = ids, None
    length = ids.shape[1]
    seen = np.concatenate([mask, np.ones((len(ids), max_new_tokens), np.int64)], axis=1)
    for place in range(max_new_tokens):
        logits, past = decoder.step(fed, seen[:, : length + place], past, last=True)
        fed = choose(logits[:, -1], place)[:, None]
        stamps.append(clock())
        tokens.append(fed)
    return Generation(np.concatenate(tokens, axis=1), tuple(stamps))
