"""The one generation loop, on a decoder of known tokens and known times."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.bench.generation import generate, negative_log_likelihood
from weighbridge.bench.metrics import METRICS

VOCABULARY = 7


class Counting:
    """Answers each token with the next number; a call takes 10 ms and 1 ms for every token that it is fed."""

    def __init__(self) -> None:
        self.now = 0
        self.masks: list[NDArray[np.int64]] = []

    def clock_ns(self) -> int:
        return self.now

    def step(self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any) -> tuple[NDArray[np.float32], int]:
        assert mask.shape[1] == (past or 0) + ids.shape[1]
        self.masks.append(mask)
        self.now += 10_000_000 + 1_000_000 * ids.shape[1]
        return np.eye(VOCABULARY, dtype=np.float32)[(ids + 1) % VOCABULARY], (past or 0) + ids.shape[1]

    def close(self) -> None:
        self.now = 0


def prompts(batch: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.full((batch, length), 2, np.int64), np.ones((batch, length), np.int64)


def test_tokens_and_times_are_those_of_the_decoder() -> None:
    """A prompt of 5 gives 15 ms to the first token and 11 ms for each other; tokens count on from the prompt's last."""
    made = generate(Counting(), *prompts(2, 5), max_new_tokens=4)
    np.testing.assert_array_equal(made.tokens, [[3, 4, 5, 6]] * 2)
    assert made.gaps_ms == pytest.approx((15.0, 11.0, 11.0, 11.0))


def test_padding_stays_masked_while_the_cache_grows() -> None:
    """The mask of a left-padded prompt grows by ones, a column a step, and keeps its zeros."""
    decoder = Counting()
    ids, mask = prompts(2, 4)
    mask[0, :2] = 0
    generate(decoder, ids, mask, max_new_tokens=3)
    assert [each.shape[1] for each in decoder.masks] == [4, 5, 6]
    np.testing.assert_array_equal(decoder.masks[-1], [[0, 0, 1, 1, 1, 1], [1] * 6])


CALLS = np.array([[15.0, 11.0, 12.0, 13.0], [25.0, 21.0, 22.0, 23.0]])
SHAPE = {"batch_size": 2, "prompt_length": 5, "max_new_tokens": 4}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("ttft", 20.0),
        ("tpot", (12.0 + 22.0) / 2),
        ("itl", 17.0),
        ("e2e_latency", (51.0 + 91.0) / 2),
        ("output_tokens_per_second", 2 * 4 / 0.071),
        ("prefill_tokens_per_second", 2 * 5 / 0.020),
        ("requests_per_second", 2 / 0.071),
    ],
)
def test_generation_metrics_by_hand(metric: str, expected: float) -> None:
    """Each metric of two requests of four tokens is what its formula gives by hand."""
    of_calls = METRICS[metric].of_calls
    assert of_calls is not None
    assert of_calls(CALLS, SHAPE) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["tpot", "itl"])
def test_one_output_token_has_no_time_per_output_token(metric: str) -> None:
    """With a single output token there is no gap to measure."""
    of_calls = METRICS[metric].of_calls
    assert of_calls is not None
    assert of_calls(CALLS[:, :1], SHAPE) is None


def test_likelihood_is_that_of_a_naive_loop() -> None:
    """Summed -ln p and token counts agree with a loop over windows and positions, padding left out."""
    random = np.random.default_rng(0)
    logits = random.standard_normal((3, 6, VOCABULARY)).astype(np.float32)
    ids = random.integers(0, VOCABULARY, (3, 6))
    mask = np.ones((3, 6), np.int64)
    mask[1, :2] = 0

    class Fixed(Counting):
        def step(self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any) -> tuple[NDArray[np.float32], int]:
            del ids, mask, past
            return logits, 6

    nll, tokens = negative_log_likelihood(Fixed(), ids, mask)
    for window in range(3):
        expected, count = 0.0, 0
        for place in range(5):
            if mask[window, place] and mask[window, place + 1]:
                row = [math.exp(float(score)) for score in logits[window, place]]
                expected -= math.log(row[ids[window, place + 1]] / sum(row))
                count += 1
        assert nll[window] == pytest.approx(expected)
        assert tokens[window] == count
