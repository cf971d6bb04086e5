"""Evidence of generators: every metric has its kinds, its value and bounds that a naive reckoning gives."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from weighbridge.bench.config import GatesConfig
from weighbridge.bench.evidence import BitsPerByte
from weighbridge.bench.generated import Generations
from weighbridge.bench.generation_evidence import (
    near_tie_sentences,
    text_evidence,
    window_evidence,
    without_divergences,
)
from weighbridge.bench.judge import VariantState, judge
from weighbridge.bench.metrics import METRICS
from weighbridge.bench.predictions import WindowScores, read_window_scores, write_window_scores
from weighbridge.bench.quality_measurements import generation_measurements
from weighbridge.bench.rules import rules_of
from weighbridge.optimize.errors import InputError

DRAW = np.random.default_rng(5)
TOKENS = DRAW.integers(20, 40, 50).astype(np.float64)
BASE = WindowScores(TOKENS * DRAW.normal(3, 0.2, 50), TOKENS, TOKENS * 4)
WORSE = WindowScores(
    BASE.nll + TOKENS * DRAW.normal(0.02, 0.01, 50), TOKENS, TOKENS * 4, tuple(DRAW.exponential(0.01, (50, 4)))
)
WINDOWS = {"base": BASE, "worse": WORSE}


def answers(share: float) -> Generations:
    """Forty answers of eight tokens, of which a share ends otherwise, and exactly these miss their reference."""
    other = np.arange(40) < 40 * share
    tokens = tuple(np.array([1, 2, 3, 4, 5, 6, 7, 8 + each], dtype=np.int64) for each in other)
    texts = tuple("one two three four five" + (" and six" if each else "") for each in other)
    margins = tuple(np.ones(8, np.float32) for _ in other)
    return Generations(("p",) * 40, ("one two three four five",) * 40, tokens, margins, texts, 8)


GENERATIONS = {"base": answers(0.0), "worse": answers(0.25)}
STATES = {"base": VariantState("ok"), "worse": VariantState("ok")}


def test_bits_per_byte_by_a_naive_reckoning() -> None:
    """Value, difference and ratio are those of sums; the bounds those of residuals with Student's t, by numpy and scipy."""
    piece = next(each for each in window_evidence(WINDOWS, "base") if isinstance(each, BitsPerByte))
    sums = {
        "value": (WORSE.nll / math.log(2), TOKENS * 4),
        "difference": ((WORSE.nll - BASE.nll) / math.log(2), TOKENS * 4),
        "ratio": (WORSE.nll, BASE.nll),
    }
    for kind, (above, below) in sums.items():
        found = piece.interval(kind, 0.01, 0.05)  # type: ignore[arg-type]
        assert found is not None
        expected = above.sum() / below.sum()
        error = np.std(above - expected * below, ddof=1) * math.sqrt(50) / below.sum()
        assert found.value == pytest.approx(expected)
        assert found.low == pytest.approx(expected + stats.t.ppf(0.01, 49) * error)
        assert found.high == pytest.approx(expected + stats.t.ppf(0.95, 49) * error)
    assert BitsPerByte("a", "bits_per_byte", {}, np.ones(1), np.ones(1), np.ones(1)).interval("value", 0.1, 0.1) is None
    assert (
        BitsPerByte("a", "bits_per_byte", {}, np.zeros(2), np.ones(2), np.ones(2)).interval("ratio", 0.1, 0.1) is None
    )


def test_a_ratio_of_bits_covers_the_truth_as_often_as_it_says() -> None:
    """In 2000 draws of 40 windows the one-sided 5 % bounds of the ratio miss a true 1.01 in 3 to 7 % each."""
    draw, missed = np.random.default_rng(0), np.zeros(2)
    for _ in range(2000):
        tokens = draw.integers(50, 100, 40).astype(np.float64)
        base = tokens * draw.normal(3, 0.3, 40)
        piece = BitsPerByte("a", "bits_per_byte", {}, base, 1.01 * base + tokens * draw.normal(0, 0.05, 40), tokens)
        found = piece.interval("ratio", 0.05, 0.05)
        assert found is not None
        missed += (found.low > 1.01, found.high < 1.01)
    assert ((missed / 2000 > 0.03) & (missed / 2000 < 0.07)).all()


def test_every_generator_metric_is_measured_and_can_be_gated() -> None:
    """Windows and answers with references give every quality metric of generators, and a rule on each has a verdict."""
    wanted = [
        "perplexity", "bits_per_byte", "kl_divergence", "token_agreement", "first_divergence", "bleu", "rouge1", "rouge2",
        "rougeL", "exact_match", "repetition", "distinct_1", "distinct_2",
    ]  # fmt: skip
    measured = {
        each.metric: each for each in generation_measurements(WINDOWS, GENERATIONS, "base") if each.variant == "worse"
    }
    assert sorted(measured) == sorted(wanted)
    evidence = [*window_evidence(WINDOWS, "base"), *text_evidence(GENERATIONS, "base")]
    assert sorted(piece.metric for piece in evidence) == sorted(wanted)
    for name in wanted:
        found = measured[name]
        assert found.low is not None
        assert found.high is not None
        assert found.value is not None
        assert found.n in (40, 50)
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9
        lower = METRICS[name].direction == "lower"
        for limit, verdict in (
            ((found.low, "fail"), (found.high, "pass")) if lower else ((found.high, "fail"), (found.low, "pass"))
        ):
            away = 1e3 if (verdict == "fail") != lower else -1e3
            rule = {"metric": name, "compare": "value", "max" if lower else "min": limit + away}
            rules = rules_of(GatesConfig.model_validate({"rules": [rule]}), "decoder")
            (gate,) = judge(rules, evidence, STATES, baseline="base").gates
            assert gate.verdict == verdict, gate.sentence


def test_values_of_answers_by_hand() -> None:
    """A quarter of forty answers differs in its last of eight tokens and misses its reference."""
    found = {each.metric: each for each in generation_measurements({}, GENERATIONS, "base") if each.variant == "worse"}
    assert found["token_agreement"].value == pytest.approx((30 + 10 * 7 / 8) / 40)
    assert found["first_divergence"].value == pytest.approx((30 * 8 + 10 * 7) / 40)
    assert found["exact_match"].value == pytest.approx(0.75)
    low, high = stats.binomtest(30, 40).proportion_ci(0.95, "exact")
    assert (found["exact_match"].low, found["exact_match"].high) == (pytest.approx(low), pytest.approx(high))
    (base,) = [each for each in generation_measurements({}, GENERATIONS, "base") if each.metric == "exact_match"][:1]
    assert base.value == 1


def test_what_is_itself_a_comparison_has_a_value_only() -> None:
    """Agreement, first divergence and KL compare with the baseline already: no difference, no ratio of them is offered."""
    pieces = {each.metric: each for each in [*window_evidence(WINDOWS, "base"), *text_evidence(GENERATIONS, "base")]}
    for name in ("token_agreement", "first_divergence", "kl_divergence"):
        assert pieces[name].kinds == ("value",)
    assert pieces["rouge1"].kinds == ("difference", "ratio", "value")


def test_windows_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Bytes and divergences come back, of a window without a compared place too; the baseline has no divergence."""
    divergences = (np.array([0.1, 0.2]), np.array([]))
    scores = WindowScores(np.array([3.0, 4.0]), np.array([2.0, 2.0]), np.array([8.0, 9.0]), divergences)
    write_window_scores(tmp_path, {"base": without_divergences(scores), "a": scores})
    found = read_window_scores(tmp_path)
    assert found["base"].divergences is None
    assert [each.tolist() for each in found["a"].divergences or ()] == [[0.1, 0.2], []]
    assert found["base"].bytes is not None
    assert found["base"].bytes.tolist() == [8.0, 9.0]


@pytest.mark.parametrize(("counted", "kept"), [([0.0, 9.0], [0.0, 9.0]), ([0.0, 0.0], None)])
def test_a_window_may_stand_for_no_bytes(counted: list[float], kept: list[float] | None, tmp_path: Path) -> None:
    """A later piece of a character stands for none; where all windows do there is nothing to count, and perplexity stays."""
    scores = WindowScores(np.array([3.0, 4.0]), np.array([2.0, 2.0]), np.array(counted))
    write_window_scores(tmp_path, {"base": scores, "a": scores})
    found = read_window_scores(tmp_path)
    assert found["a"].bytes is None if kept is None else found["a"].bytes.tolist() == kept  # type: ignore[union-attr]
    assert {each.metric for each in window_evidence(found, "base")} == {
        "perplexity",
        *(["bits_per_byte"] if kept else []),
    }


@pytest.mark.parametrize(("tokens", "counted"), [([2.0, 0.0], [8.0, 9.0]), ([2.0, 2.0], [8.0, -1.0])])
def test_a_window_without_tokens_or_of_fewer_bytes_than_none_is_damage(
    tokens: list[float], counted: list[float], tmp_path: Path
) -> None:
    """No run writes such counts."""
    scores = WindowScores(np.array([3.0, 4.0]), np.array(tokens), np.array(counted))
    write_window_scores(tmp_path, {"base": scores})
    with pytest.raises(InputError, match="a window has no tokens, or fewer than no bytes"):
        read_window_scores(tmp_path)


def test_scores_of_an_older_run_have_neither_bytes_nor_divergences(tmp_path: Path) -> None:
    """Without the columns perplexity is all that there is to say."""
    write_window_scores(tmp_path, {name: WindowScores(each.nll, each.tokens) for name, each in WINDOWS.items()})
    assert [each.metric for each in window_evidence(read_window_scores(tmp_path), "base")] == ["perplexity"]


def test_near_ties_of_padding_are_told() -> None:
    """The sentence names the variant and the places; a variant without any is not spoken of."""
    events = [
        {"event": "checked", "variant": "a", "near_ties": [{"prompt": 1, "place": 3, "margin": 5e-5}]},
        {"event": "checked", "variant": "b", "near_ties": []},
        {"event": "checked", "variant": "older"},
    ]
    (sentence,) = near_tie_sentences(events)
    assert sentence.startswith("a: a left-padded batch and single requests chose other tokens")
    assert "prompt 1 token 3 (5.0e-05)" in sentence
