"""Likelihoods on given text, on a decoder whose logits are known."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.bench.scoring import divergences, places_of, score
from weighbridge.optimize.errors import BuildError

VOCABULARY = 7


class Table:
    """A decoder whose logits after a token are a row of a table, whatever came before."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.table = table

    def clock_ns(self) -> int:
        return 0

    def step(self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any) -> tuple[NDArray[np.float32], Any]:
        assert mask.shape == ids.shape
        return self.table[ids], past

    def close(self) -> None:
        pass


def windows(count: int, size: int) -> dict[str, NDArray[Any]]:
    """Random windows; the first is padded on the left, and of each only the second half is scored."""
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (count, size))
    mask, scored = np.ones_like(ids), np.zeros_like(ids)
    mask[0, : size // 4] = 0
    scored[:, size // 2 :] = 1
    return {"attention_mask": mask, "input_ids": ids, "scored": scored}


def test_likelihoods_and_next_tokens_are_those_of_a_naive_loop() -> None:
    """Over several batches, summed -ln p and the kept log-probabilities agree with a loop over windows and places."""
    table = np.random.default_rng(0).standard_normal((VOCABULARY, VOCABULARY)).astype(np.float32)
    arrays = windows(5, 200)  # two windows at once
    nll, next_tokens = score(Table(table), arrays)

    def log_probability(before: int, token: int) -> float:
        row = [math.exp(float(each)) for each in table[before]]
        return math.log(row[token] / sum(row))

    for window in range(5):
        ids = arrays["input_ids"][window]
        assert nll[window] == pytest.approx(-sum(log_probability(ids[at - 1], ids[at]) for at in range(100, 200)))
    places = places_of(arrays["scored"], VOCABULARY)
    assert len(places) == len(next_tokens) == 255
    for row in (0, 60, 254):
        window, token = places[row]
        expected = [log_probability(arrays["input_ids"][window, token - 1], each) for each in range(VOCABULARY)]
        np.testing.assert_allclose(next_tokens[row], expected, rtol=1e-5)


def test_compared_places_are_scored_ones_spread_over_all_windows() -> None:
    """At most 256 places, the same number a window; a large vocabulary leaves fewer, in windows spread over the text."""
    scored = windows(64, 16)["scored"]
    places = places_of(scored, VOCABULARY)
    assert scored[tuple(places.T)].all()
    np.testing.assert_array_equal(np.bincount(places[:, 0]), [4] * 64)
    few = places_of(scored, 2**20)
    assert len(few) == 8
    assert few[:, 0].tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    np.testing.assert_array_equal(places_of(scored[:1], VOCABULARY)[:, 1], range(8, 16))


def test_the_one_place_of_a_window_is_in_its_middle() -> None:
    """Where there is room for one place a window it is not the first scored token, which has least before it."""
    assert places_of(windows(300, 16)["scored"], VOCABULARY)[:, 1].tolist() == [12] * 256


def test_divergences_are_scipys_relative_entropy() -> None:
    """KL of each place agrees with scipy's entropy; of equal distributions it is 0."""
    from scipy.stats import entropy

    ours, theirs = (np.random.default_rng(seed).dirichlet(np.ones(9), 4) for seed in (2, 3))
    found = divergences(np.log(ours).astype(np.float32), np.log(theirs).astype(np.float32))
    np.testing.assert_allclose(found, entropy(ours, theirs, axis=1), rtol=1e-5)
    assert divergences(np.log(ours), np.log(ours)).tolist() == [0.0] * 4


def test_a_token_that_cannot_come_adds_no_divergence() -> None:
    """With a probability of 0 for both, or for the baseline alone, a token counts nothing, as in scipy."""
    from scipy.stats import entropy

    ours, theirs = np.array([[0.5, 0.5, 0.0, 0.0]]), np.array([[0.25, 0.5, 0.25, 0.0]])
    with np.errstate(divide="ignore"):
        found = divergences(np.log(ours), np.log(theirs))
    np.testing.assert_allclose(found, entropy(ours, theirs, axis=1))


@pytest.mark.parametrize("candidate", [(4, 8), (3, 9), (1, 9), (4, 1)])
def test_unlike_vocabularies_are_not_compared(candidate: tuple[int, int]) -> None:
    """Other tokens or other places than the baseline's are refused with both counts, those that numpy would stretch too."""
    places, tokens = candidate
    with pytest.raises(BuildError) as refused:
        divergences(np.zeros((4, 9), np.float32), np.zeros(candidate, np.float32))
    assert str(refused.value) == (
        f"its next tokens are over a vocabulary of {tokens} at {places} places, the baseline's over a vocabulary of 9 at 4 places: "
        "they cannot be compared token by token; give a model with the baseline's vocabulary, or weigh this one in a run of its own"
    )
