"""The one generation loop, on a decoder of known tokens and known times."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.bench.generation import generate
from weighbridge.bench.metrics import METRICS, past_parts

VOCABULARY = 7


class Counting:
    """Answers each token with the next number; a call takes 10 ms and 1 ms for every token that it is fed."""

    def __init__(self) -> None:
        self.now = 0
        self.masks: list[NDArray[np.int64]] = []

    def clock_ns(self) -> int:
        return self.now

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any, *, last: bool = False
    ) -> tuple[NDArray[np.float32], int]:
        fed = ids[:, -1:] if last else ids
        assert mask.shape[1] == (past or 0) + ids.shape[1]
        self.masks.append(mask)
        self.now += 10_000_000 + 1_000_000 * ids.shape[1]
        return np.eye(VOCABULARY, dtype=np.float32)[(fed + 1) % VOCABULARY], (past or 0) + ids.shape[1]

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


def test_another_choice_of_tokens_is_fed_back() -> None:
    """Whoever chooses sees the logits of the last place and its number, and the loop goes on from what was chosen."""

    def last(logits: NDArray[np.float32], place: int) -> NDArray[np.int64]:
        assert logits.shape == (2, VOCABULARY)
        return np.asarray(logits.argmax(axis=-1) + place, dtype=np.int64)

    made = generate(Counting(), *prompts(2, 5), 3, last)
    np.testing.assert_array_equal(made.tokens, [[3, 5, 8]] * 2)


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


def test_time_per_output_token_is_told_along_the_past() -> None:
    """33 tokens after a prompt of 8 have 32 gaps, on caches of 8 to 39: four parts of 8, whose middles are 12, 20, 28, 36."""
    shape = {"batch_size": 1, "prompt_length": 8, "max_new_tokens": 33}
    assert {past: (part.start, part.stop) for past, part in past_parts(shape).items()} == {
        12: (0, 8),
        20: (8, 16),
        28: (16, 24),
        36: (24, 32),
    }
    calls = np.array([[100.0, *range(32)], [100.0, *range(10, 42)], [100.0, *range(20, 52)]])
    of_calls = METRICS["tpot"].of_calls
    assert of_calls is not None
    assert of_calls(calls, {**shape, "past_length": 20}) == np.mean(range(18, 26))


def test_a_request_of_few_tokens_has_no_parts() -> None:
    """Eight tokens have seven gaps, too few for two parts of four; nine have eight."""
    shape = {"batch_size": 1, "prompt_length": 8}
    assert past_parts({**shape, "max_new_tokens": 8}) == {}
    assert list(past_parts({**shape, "max_new_tokens": 9})) == [10, 14]


@pytest.mark.parametrize("metric", ["tpot", "itl"])
def test_one_output_token_has_no_time_per_output_token(metric: str) -> None:
    """With a single output token there is no gap to measure."""
    of_calls = METRICS[metric].of_calls
    assert of_calls is not None
    assert of_calls(CALLS[:, :1], SHAPE) is None
