"""The quality metrics of generators against hand-made numbers, naive loops, sacrebleu and rouge-score."""

import collections
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.generation_quality import (
    agreeing,
    bleu,
    compared,
    distinct,
    exact,
    first_divergence,
    of_divergences,
    of_tokens,
    of_values,
    rouge,
)
from weighbridge.bench.quality import Estimate

REFERENCES = [
    "the cat sat on the mat and looked at the dog",
    "returns the eigenvalues of a square array",
    "open the file and read all of its lines",
    "it is a rainy day in the north of the country",
]
ANSWERS = [
    "the cat sat on the mat and saw the dog",
    "returns eigenvalues of the square array in order",
    "open the file and read its lines",
    "it is a day",
]


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int64)


def test_repetition_and_distinct_by_hand() -> None:
    """1 2 3 4 1 2 3 4 has five 4-grams of which one repeats, 4 of 8 tokens and 4 of 7 pairs different; a short answer repeats nothing."""
    found = of_tokens([ids(1, 2, 3, 4, 1, 2, 3, 4), ids(5)])
    assert found["repetition"].value == pytest.approx((1 / 5 + 0) / 2)
    assert found["distinct_1"].value == pytest.approx((4 / 8 + 1) / 2)
    assert found["distinct_2"].value == pytest.approx((4 / 7 + 1) / 2)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_distinct_is_that_of_a_counter(tokens: list[int], n: int) -> None:
    """The share of different n-grams agrees with a count of the pieces of a string."""
    letters = "".join(map(str, tokens))
    counts = collections.Counter(letters[at : at + n] for at in range(len(letters)) if at + n <= len(letters))
    expected = len(counts) / counts.total() if counts else 1.0
    assert distinct(ids(*tokens), n) == pytest.approx(expected)


def test_agreement_counts_positions_after_the_divergence_too() -> None:
    """1 2 3 4 against 1 9 3: two of four positions agree, apart from position 1; a missing end is apart where it is missing."""
    ours, theirs = ids(1, 2, 3, 4), ids(1, 9, 3)
    assert agreeing(ours, theirs) == pytest.approx(2 / 4)
    assert first_divergence(ours, theirs) == 1
    assert first_divergence(ids(1, 2), ids(1, 2, 3)) == 2
    assert first_divergence(ours, ours) is None
    found = compared([ours, ours], [theirs, ours], 64)
    assert found["token_agreement"].value == pytest.approx((2 / 4 + 1) / 2)
    assert found["first_divergence"].value == pytest.approx((1 + 64) / 2)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_agreement_is_that_of_a_loop(first: list[int], second: list[int]) -> None:
    """Padded with a token that is neither's, both answers are compared position by position."""
    size = max(len(first), len(second))
    pairs = list(zip(first + [-1] * (size - len(first)), second + [-2] * (size - len(second)), strict=True))
    same = [ours == theirs for ours, theirs in pairs]
    assert agreeing(ids(*first), ids(*second)) == pytest.approx(sum(same) / size)
    assert first_divergence(ids(*first), ids(*second)) == (None if all(same) else same.index(False))


def test_divergence_is_a_mean_of_windows_bounded_by_the_worst_place() -> None:
    """Windows of 0.1 and 0.3 (mean of 0.0 and 0.6) give 0.2; a window without places counts nowhere; the worst place bounds it."""
    found = of_divergences([np.array([0.1, 0.1]), np.array([0.0, 0.6]), np.array([])])
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert found.value + found.flipped.max() == pytest.approx(0.6)
    assert of_divergences([np.array([])]) is None
    assert of_divergences([]) is None


def test_bleu_is_sacrebleus() -> None:
    """The value is sacrebleu's corpus BLEU, at full length and with its brevity penalty and smoothing."""
    import sacrebleu

    for answers in (ANSWERS, [text * 2 for text in ANSWERS], ["the day", *ANSWERS[1:2], "x", "y"]):
        assert bleu(answers, REFERENCES).value == pytest.approx(sacrebleu.corpus_bleu(answers, [REFERENCES]).score)


@pytest.mark.parametrize("answers", [ANSWERS, [text + " of the day in the north" for text in ANSWERS]])
def test_the_influence_of_an_answer_on_bleu_is_its_derivative(answers: list[str]) -> None:
    """With one answer counted a thousand and one times instead of a thousand, BLEU moves by its influence, short or long."""
    import sacrebleu

    found, times = bleu(answers, REFERENCES), 1000
    assert found.influence.sum() == pytest.approx(0, abs=1e-9)
    for place in range(4):
        score = sacrebleu.corpus_bleu(
            [*answers * times, answers[place]], [[*REFERENCES * times, REFERENCES[place]]]
        ).score
        moved = (score - found.value) * (4 * times + 1)
        assert moved == pytest.approx(found.influence[place], rel=2e-3, abs=2e-2)


def test_a_bleu_of_nothing_is_bounded_by_its_ends() -> None:
    """Answers without a word score 0, and the next one may have anything up to 100."""
    found = bleu(["", ""], REFERENCES[:2])
    assert (found.value, found.flipped.min(), found.flipped.max()) == (0, 0, 100)


def test_rouge_is_that_of_the_scorer_and_of_a_naive_count() -> None:
    """Each F-measure is the mean of rouge-score's; ROUGE-1 also that of a count of common words by hand."""
    from rouge_score.rouge_scorer import RougeScorer

    found = rouge(ANSWERS, REFERENCES)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name, estimate in found.items():
        each = [scorer.score(*pair)[name].fmeasure for pair in zip(REFERENCES, ANSWERS, strict=True)]
        assert estimate.value == pytest.approx(float(np.mean(each)))
    by_hand = []
    for answer, reference in zip(ANSWERS, REFERENCES, strict=True):
        ours, theirs = (collections.Counter(text.split()) for text in (answer, reference))
        by_hand.append(2 * (ours & theirs).total() / (ours.total() + theirs.total()))
    assert found["rouge1"].value == pytest.approx(float(np.mean(by_hand)))


def test_an_exact_match_heeds_all_but_white_space_at_the_ends() -> None:
    """Case and inner spaces count, those at the ends do not."""
    assert exact([" Paris\n", "paris", "New  York"], ["Paris", "Paris", "New York"]).tolist() == [True, False, False]


def test_bounds_of_a_mean_reach_its_ends_by_the_rule_of_three() -> None:
    """Sixty answers that all have 1 may still hide some of 0: the lower bound at 5 % is that of Clopper and Pearson."""
    found: Estimate = of_values(np.ones(60), 0.0, 1.0)
    assert found.mean.low(0.05) == pytest.approx(math.exp(math.log(0.05) / 60), rel=1e-2)
    assert found.mean.high(0.05) == pytest.approx(1.0)
