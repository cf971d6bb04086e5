"""How many examples a rule needs: against numbers by hand, and against whether the product's own interval then passes."""

import numpy as np
import pytest
from weighbridge.bench.metrics import Kind
from weighbridge.bench.needed import (
    Examples,
    data_sentences,
    examples_judged,
    examples_needed,
    examples_of,
    is_counted,
    planned_sentence,
)
from weighbridge.bench.rules import Rule
from weighbridge.bench.stats import tango_bounds

ACCURATE = Rule("accuracy", "difference", -0.01, maximum=False)
WORST = Rule("worst_class_recall", "difference", -0.05, maximum=False)


@pytest.mark.parametrize(
    ("rule", "alpha", "wanted"),
    [
        (ACCURATE, 0.025, 1570),
        (Rule("accuracy", "ratio", 0.99, maximum=False), 0.025, 1570),
        (Rule("log_loss", "difference", 0.01, maximum=True), 0.025, 1570),
        (Rule("accuracy", "difference", -0.1, maximum=False), 0.01, 47),
        (Rule("accuracy", "value", 0.9, maximum=False), 0.025, 1766),
        (Rule("accuracy", "difference", 0.01, maximum=False), 0.01, None),
        (Rule("log_loss", "value", 0.3, maximum=True), 0.01, None),
    ],
)
def test_the_need_by_hand(rule: Rule, alpha: float, wanted: int | None) -> None:
    """(1.96 + 0.84)**2 * 0.02 / 0.01**2 = 1570; with much room ln(100) / 0.1; 0.09 instead of 0.02 for a value; no word on gains."""
    assert examples_needed(rule, alpha) == wanted


def test_the_needed_examples_suffice_with_the_stated_chance() -> None:
    """With so many examples, 2 % of them changed as often for better as for worse, Tango's bound passes in 65 % to 90 % of draws."""
    needed = examples_needed(ACCURATE, 0.01)
    assert needed is not None
    random = np.random.default_rng(1)
    gained, lost = random.binomial(needed, 0.01, 400), random.binomial(needed, 0.01, 400)
    passed = [tango_bounds(int(g), int(w), needed, 0.01, 0.01)[0] >= -0.01 for g, w in zip(gained, lost, strict=True)]
    assert 0.65 <= np.mean(passed) <= 0.9


def test_a_rare_class_makes_a_macro_metric_need_more() -> None:
    """With classes of 90 % and 10 % a changed answer of the rare one moves the mean recall five times as far."""
    rule = Rule("balanced_accuracy", "difference", -0.01, maximum=False)
    even, uneven = Examples("", {"a": 50, "b": 50}), Examples("", {"a": 90, "b": 10})
    base = examples_needed(rule, 0.01, even)
    assert base == examples_needed(ACCURATE, 0.01, uneven)
    assert base is not None
    assert examples_needed(rule, 0.01, uneven) == pytest.approx(base * (0.9 / 1.8**2 + 0.1 / 0.2**2), rel=0.001)


def test_classes_are_counted_by_name() -> None:
    """Only classes that occur are counted; one without a name is its number."""
    assert examples_of(np.array([0, 2, 2]), ["cat", "dog"]).of_class == {"cat": 1, "2": 2}


def test_sentences_name_what_is_short() -> None:
    """All examples together, the rarest class and each slice are told apart; what is enough says so."""
    labels = np.repeat([0, 1], [5000, 40])
    values = ["de"] * 5000 + ["fr"] * 40
    judged = examples_judged(labels, ["card", "loan"], {"language": values})
    sliced = Rule("accuracy", "difference", -0.01, maximum=False, slice="language")
    other = Rule("accuracy", "difference", -0.01, maximum=False, slice="country")
    accurate, worst, within = data_sentences([ACCURATE, WORST, sliced, other], 0.01, judged)
    assert accurate.startswith("Rule accuracy difference at least -0.01: about 2,008 examples are needed if 2% of")
    assert accurate.endswith("there are enough.")
    assert "examples of every class are needed" in worst
    assert worst.endswith("class loan has 40: it may stay undecided.")
    assert "within each language: about 2,008 examples in each language" in within
    assert within.endswith("language=fr has 40: it may stay undecided.")


def test_many_short_slices_are_counted_and_not_listed() -> None:
    """Of eight slices that are too small five are named."""
    judged = examples_judged(np.zeros(80, np.int64), ["a"], {"language": [f"l{row % 8}" for row in range(80)]})
    rule = Rule("accuracy", "difference", -0.01, maximum=False, slice="language")
    (sentence,) = data_sentences([rule], 0.01, judged)
    assert "language=l4 has 10 and 3 more are short: it may stay undecided" in sentence


@pytest.mark.parametrize(
    ("metric", "compare", "limit", "maximum", "words"),
    [
        ("accuracy", "difference", -0.01, False, "It needs about 2,008 examples if 2% of the answers change"),
        ("brier", "difference", 0.02, True, "for better or worse, each moving it by 1."),
        ("accuracy", "value", 0.9, False, "examples for a model 2 points above the limit."),
        ("worst_class_recall", "difference", -0.05, False, "examples of every class if 2%"),
    ],
)
def test_the_plan_says_the_need(metric: str, compare: Kind, limit: float, maximum: bool, words: str) -> None:
    """Before any data is read the plan says how many examples, of what, and under which assumption."""
    assert words in planned_sentence(Rule(metric, compare, limit, maximum), 0.01, None)


def test_the_plan_says_where_max_examples_is_too_few() -> None:
    """A cap below the need is told, one above it is not."""
    assert planned_sentence(ACCURATE, 0.01, 300).endswith(" max_examples = 300 is too few.")
    assert "too few" not in planned_sentence(ACCURATE, 0.01, 3000)


def test_rules_on_speed_and_windows_have_no_count() -> None:
    """Only rules on a classifier's quality are counted in examples."""
    assert not is_counted(Rule("latency_p50", "ratio", 1.03, maximum=True))
    assert not is_counted(Rule("perplexity", "ratio", 1.01, maximum=True))


def test_a_rule_with_hardly_any_room_asks_for_no_number() -> None:
    """A limit as near to no change as a float can be gives no count instead of one that overflows."""
    assert examples_needed(Rule("accuracy", "difference", -1e-200, maximum=False), 0.01) is None
    assert examples_needed(Rule("accuracy", "difference", -1e-6, maximum=False), 0.01) is not None
