"""The choice of the next token: the likeliest, or drawn by numbers that variants share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.choosing import Drawn, greedy, log_probabilities, uniforms


def naive(logits: list[float], number: float, temperature: float, top_k: int, top_p: float) -> int:
    """Temperature, then top-k, then top-p, then the inverse of the cumulated probabilities, one token at a time."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    weights = {token: math.exp(logits[token] / temperature) for token in order[: top_k or None]}
    total, kept, before = sum(weights.values()), {}, 0.0
    for token, weight in weights.items():
        if before < top_p:
            kept[token] = weight / total
        before += weight / total
    reached = 0.0
    for token in sorted(kept):
        reached += kept[token] / sum(kept.values())
        if reached > number:
            return token
    raise AssertionError


@given(
    logits=st.lists(st.integers(-60, 60), min_size=2, max_size=12, unique=True),
    number=st.floats(0, 0.999),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.integers(0, 12),
    top_p=st.sampled_from([0.3, 0.77, 1.0]),
)
def test_a_drawn_token_is_that_of_a_naive_loop(
    logits: list[int], number: float, temperature: float, top_k: int, top_p: float
) -> None:
    """Temperature, top-k, top-p and the draw agree with a loop over tokens, whatever the logits."""
    scores = np.array([logits], dtype=np.float32) / 10
    drawn = Drawn(np.array([[number]]), temperature, top_k, top_p)(scores, 0)
    assert drawn.tolist() == [naive([float(each) for each in scores[0]], number, temperature, top_k, top_p)]


def test_the_likeliest_token_of_each_request_is_chosen() -> None:
    """Greedy choice takes the first of the highest logits."""
    assert greedy(np.array([[0, 2, 2], [3, 1, 0]], dtype=np.float32), 5).tolist() == [1, 0]


def test_each_place_has_its_own_number_and_every_variant_the_same() -> None:
    """The numbers depend on seed, request and place alone, and a draw uses that of its place."""
    numbers = uniforms(7, 2, 5)
    np.testing.assert_array_equal(numbers, uniforms(7, 3, 5)[:2])
    assert len(np.unique(numbers)) == 10
    assert not np.array_equal(numbers, uniforms(8, 2, 5))
    even = np.zeros((1, 4), np.float32)
    assert [int(Drawn(np.array([[0.1, 0.9]]))(even, place)[0]) for place in (0, 1)] == [0, 3]


def test_log_probabilities_are_scipys() -> None:
    """They agree with scipy's log-softmax, for logits whose exponentials overflow too."""
    from scipy.special import log_softmax

    logits = np.array([[1000.0, 999.0, -np.inf], [0.5, -3.0, 2.0]])
    np.testing.assert_allclose(log_probabilities(logits), log_softmax(logits, axis=-1))
    assert np.exp(log_probabilities(logits)).sum(axis=-1) == pytest.approx(1.0)
