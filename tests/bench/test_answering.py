"""Answers to prompts, and the check that a padded batch answers as single requests do, on decoders of known behaviour."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.bench.answering import answer, padding_ties
from weighbridge.bench.workloads.prompts import Prompts
from weighbridge.optimize.errors import BuildError

VOCABULARY = 11
TIE = 1e-4


class Summing:
    """The next token is the sum of all tokens so far, padding left out unless it `sees_padding`.

    The runner-up follows 1 below, and in a batch of several it gains `by` on the best.
    """

    def __init__(self, *, sees_padding: bool = False, by: float = 0.0, gap: float = 1.0) -> None:
        self.sees_padding, self.by, self.gap = sees_padding, by, gap

    def clock_ns(self) -> int:
        return 0

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any, *, last: bool = False
    ) -> tuple[NDArray[np.float32], Any]:
        new = mask[:, -ids.shape[1] :]
        counted = np.where(new == 1, ids, 5 if self.sees_padding else 0)
        total = np.zeros((len(ids), 1), np.int64) if past is None else past[:, None]
        sums = total + np.cumsum(counted, axis=1)
        logits = np.zeros((*ids.shape, VOCABULARY), np.float32)
        rows, columns = np.indices(ids.shape)
        logits[rows, columns, sums % VOCABULARY] = 9.0
        logits[rows, columns, (sums + 1) % VOCABULARY] = 9.0 - self.gap + (self.by if len(ids) > 1 else 0.0)
        return logits[:, -1:] if last else logits, sums[:, -1]

    def close(self) -> None:
        pass


def prompts(**changes: Any) -> Prompts:
    ids = tuple(np.arange(1, length + 1) for length in (8, 8, 8, 8, 3))
    return Prompts(**{"ids": ids, "texts": ("",) * 5, "references": (), "max_new_tokens": 4, **changes})


def test_each_prompt_is_answered_at_its_own_length() -> None:
    """1 + ... + 8 = 36 = 3 (mod 11), then 39 = 6, 45 = 1, 46 = 2; 1 + 2 + 3 = 6, then 12 = 1, 13 = 2, 15 = 4."""
    tokens, margins = answer(Summing(gap=0.25), prompts())
    assert tokens.tolist() == [[3, 6, 1, 2]] * 4 + [[6, 1, 2, 4]]
    np.testing.assert_allclose(margins, 0.25)


def test_drawn_answers_are_drawn_anew_for_each_prompt_and_alike_each_time() -> None:
    """Equal prompts get other answers by their own numbers, and the same ones when asked again; the seed counts."""
    drawn = {"temperature": 50.0, "top_k": 0, "top_p": 1.0, "seed": 3}
    tokens, _ = answer(Summing(), prompts(sampling=drawn))
    assert len(np.unique(tokens[:4], axis=0)) == 4
    np.testing.assert_array_equal(tokens, answer(Summing(), prompts(sampling=drawn))[0])
    assert not np.array_equal(tokens, answer(Summing(), prompts(sampling={**drawn, "seed": 4}))[0])


def test_padding_that_is_left_out_changes_nothing() -> None:
    """A decoder that heeds the mask gives a mixed batch the tokens of single requests, whoever else is in it."""
    assert padding_ties(Summing(), prompts(), TIE) == []
    assert padding_ties(Summing(), prompts(ids=(np.arange(1, 3),)), TIE) == []


def test_padding_that_is_seen_fails_the_variant() -> None:
    """A decoder that reads padding as tokens is refused with the place and how clear the choice was."""
    with pytest.raises(
        BuildError, match=r"padding changes its answers: in a left-padded batch of 4 prompts the one of 2 tokens"
    ):
        padding_ties(Summing(sees_padding=True), prompts(), TIE)


def test_a_near_tie_may_go_either_way_and_is_listed() -> None:
    """Where the best logit leads by 0.00005 and a batch tips it, the place is listed; a lead of 0.001 is no tie."""
    ties = padding_ties(Summing(gap=5e-5, by=1e-4), prompts(), TIE)
    assert [(tie["prompt"], tie["place"]) for tie in ties] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert ties[0]["margin"] == pytest.approx(5e-5, rel=0.05)
    with pytest.raises(BuildError, match=r"the two best logits lie 0\.001 apart \(allowed: 0\.0001\)"):
        padding_ties(Summing(gap=1e-3, by=2e-3), prompts(), TIE)
    assert len(padding_ties(Summing(gap=1e-3, by=2e-3), prompts(), tie=2e-3)) == 4
