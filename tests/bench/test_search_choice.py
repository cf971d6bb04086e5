"""The choices of a search, on models of layers whose damages and costs are known."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from weighbridge.bench.search_answers import CLASSES_FILE, ClassAnswers, ClassReference, divergence
from weighbridge.bench.search_choice import explore, finalists, front, ranked, sensitivity_of
from weighbridge.bench.search_findings import Phase
from weighbridge.bench.search_outcome import Budget, Outcome, Record, cost

EXAMPLES = 1000
LAYERS = ("a", "b", "c", "d", "e")
FLOOR = 0.005


@dataclass
class Layered:
    """A model whose layers, in INT8, each spoil so many answers of their own, and in float each add so many milliseconds.

    `together` are two layers that spoil answers unless both are in float. Whole INT8 takes 10 ms.
    """

    spoilt: Mapping[str, int]
    costs: Mapping[str, float] = field(default_factory=dict)
    together: tuple[str, str] | None = None
    most_trials: int = 1000
    unbuildable: frozenset[str] = frozenset()
    tried: list[tuple[tuple[str, ...], Phase]] = field(default_factory=list)

    def measure(self, kept: tuple[str, ...], phase: Phase) -> Outcome | None:
        """A trial, exact in time and on the same examples each time."""
        known = [each for each, _ in self.tried]
        if kept not in known:
            if len(known) >= self.most_trials:
                return None
            self.tried.append((kept, phase))
        number = [each for each, _ in self.tried].index(kept)
        failed = "cannot be built" if self.unbuildable & set(kept) else ""
        return self.outcome(number, kept, self.tried[number][1], failed)

    def outcome(self, number: int, kept: tuple[str, ...], phase: Phase, reason: str = "") -> Outcome:
        wrong = np.zeros(EXAMPLES, np.bool_)
        start = 0
        for layer in LAYERS:
            count = self.spoilt.get(layer, 0)
            spoils = layer not in kept
            if self.together and layer in self.together:
                spoils = not set(self.together) <= set(kept)
            wrong[start : start + count] = spoils
            start += count
        time = 10.0 + sum(self.costs.get(layer, 0.0) for layer in kept)
        return Outcome(
            number=number,
            phase=phase,
            kept=kept,
            seconds=1.0,
            reason=reason,
            answers=ClassAnswers(~wrong, np.ones(EXAMPLES, np.bool_), wrong.astype(np.float64)),
            log_ratios=np.full(15, np.log(time / 10.0)),
            whole_ms=10.0,
        )

    def explored(self, max_drop: float):  # noqa: ANN201 - the search's own Found
        whole = self.measure((), "whole")
        assert whole is not None
        return explore(LAYERS, whole, self.measure, Budget(max_drop, EXAMPLES), FLOOR)


def cheapest(model: Layered, budget: Budget) -> float:
    """The least time of any set of layers that keeps the budget, by trying all of them."""
    sets = itertools.chain.from_iterable(itertools.combinations(LAYERS, size) for size in range(len(LAYERS) + 1))
    outcomes = [model.outcome(0, kept, "rollback") for kept in sets]
    return min(each.ms.value for each in outcomes if budget.met(each))


def test_the_one_layer_that_hurts_is_returned() -> None:
    """One layer that spoils 100 answers is found and left in float; no other is, and the ledger says what it cost and gave."""
    found = Layered({"c": 100, "d": 2}, {"c": 0.5}).explored(0.01)
    assert (found.best.kept, found.met, found.complete) == (("c",), True, True)
    (step, removal) = (each.row(number) for number, each in enumerate(found.steps, 1))
    assert (step.layer, step.decision, removal.decision) == ("c", "left in float", "needed")
    assert step.cost is not None
    assert step.returned is not None
    assert (step.cost.value, step.cost.low, step.returned.value) == pytest.approx((0.5, 0.5, 0.1))
    assert removal.cost == step.cost
    assert removal.returned == step.returned


def test_nothing_is_returned_where_whole_int8_keeps_the_budget() -> None:
    """Whole INT8 that spoils one answer of 1000 is the choice, and still every layer's sensitivity is known."""
    found = Layered({"a": 1}).explored(0.01)
    assert (found.best.kept, found.steps, len(found.sensitivity)) == ((), (), len(LAYERS))


def test_two_layers_that_help_only_together_are_found() -> None:
    """Layers that alone give nothing back, but all of it together, are left in float, and what proved needless is put back."""
    found = Layered({"a": 3, "b": 100, "d": 100, "e": 4}, dict.fromkeys(LAYERS, 0.2), together=("b", "d")).explored(
        0.02
    )
    assert found.met
    assert found.best.kept == ("b", "d")
    assert {step.layer for step in found.steps if step.decision == "put back"} == {"a", "c", "e"}


def test_of_two_equal_damages_the_cheaper_return_comes_first() -> None:
    """Layers are ranked by what they give back for a millisecond; costs below the floor count as the floor."""
    model = Layered({"a": 50, "b": 50, "c": 40, "d": 10}, {"a": 2.0, "b": 0.5, "c": 0.001, "d": -1.0})
    whole = model.outcome(0, (), "whole")
    alone = [model.outcome(1 + place, (layer,), "sensitivity") for place, layer in enumerate(LAYERS[:4])]
    assert ranked(alone, whole, FLOOR) == ["c", "d", "b", "a"]
    assert ranked(alone, whole, floor=0.3) == ["a", "b", "c", "d"]


@settings(max_examples=20, deadline=None)
@given(
    spoilt=st.lists(st.sampled_from([0, 5, 20, 60]), min_size=5, max_size=5),
    max_drop=st.sampled_from([0.01, 0.03, 0.1]),
)
def test_additive_damages_at_one_price_find_a_cheapest_set(spoilt: list[int], max_drop: float) -> None:
    """Where damages add up and every layer costs the same, no set of layers that keeps the budget is faster than the choice."""
    model = Layered(dict(zip(LAYERS, spoilt, strict=True)), dict.fromkeys(LAYERS, 0.3))
    found = model.explored(max_drop)
    assert found.met
    assert found.best.ms.value == pytest.approx(cheapest(model, Budget(max_drop, EXAMPLES)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 14))
def test_a_search_out_of_time_offers_its_best(most: int) -> None:
    """Wherever the time ends, the choice is a trial that was made, and only a whole search is called complete."""
    damages = {"a": 40, "b": 100, "d": 80}
    found = Layered(damages, most_trials=most).explored(0.01)
    unhurried = Layered(damages)
    unhurried.explored(0.01)
    assert found.complete == (most >= len(unhurried.tried))
    assert found.met == (found.best.kept == ("a", "b", "d"))
    if not found.met:
        tried = [step.after for step in found.steps]
        assert found.best.difference.value == max([each.difference.value for each in tried], default=-0.22)


def test_a_layer_that_cannot_be_left_costs_only_its_row() -> None:
    """A trial that fails is a row with its reason; the search goes on with the other layers, and says that the budget was missed."""
    model = Layered({"a": 60, "b": 50}, unbuildable=frozenset({"a"}))
    found = model.explored(0.01)
    assert (found.met, found.best.kept[0]) == (False, "b")
    whole = model.outcome(0, (), "whole")
    (row,) = (sensitivity_of(each, whole) for each in found.sensitivity if not each.ok)
    assert (row.layer, row.reason, row.kl) == ("a", "cannot be built", None)
    model = Layered({"a": 60, "b": 50}, most_trials=100)
    assert model.explored(0.01).met


def test_the_same_trials_give_the_same_search() -> None:
    """Nothing in the choices is drawn: two searches of one model make the same trials in the same order."""
    first, second = (Layered({"a": 9, "b": 70, "e": 30}, {"b": 1.0}) for _ in range(2))
    first.explored(0.01)
    second.explored(0.01)
    assert first.tried == second.tried


def test_a_layer_that_int8_makes_slower_stays_in_float() -> None:
    """A returned layer that the budget does not need is not put back where that would surely make the variant slower."""
    found = Layered({"a": 20, "b": 60}, {"a": -3.0, "b": 0.1}).explored(0.025)
    assert found.best.kept == ("a", "b")
    found = Layered({"a": 20, "b": 60}, {"a": -0.01, "b": 0.1}).explored(0.07)
    assert found.met


@pytest.mark.parametrize(
    ("lost", "examples", "met"), [(0, 1000, True), (20, 1000, False), (0, 100, True), (2, 100, False), (1, 100, True)]
)
def test_the_budget_is_held_to_a_bound_where_one_can_be(lost: int, examples: int, *, met: bool) -> None:
    """With 1000 examples the lower bound decides (none lost passes 1 point); 100 cannot bound it, and the estimate decides."""
    right = np.ones(examples, np.bool_)
    right[:lost] = False
    answers = ClassAnswers(right, np.ones(examples, np.bool_), np.zeros(examples))
    outcome = replace(Layered({}).outcome(0, (), "whole"), answers=answers)
    budget = Budget(0.01, examples)
    assert budget.provable == (examples == 1000)
    assert budget.met(outcome) == met


_POINT = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.integers(0, 300))


@settings(max_examples=20, deadline=None)
@given(st.lists(_POINT, min_size=1, max_size=12))
def test_only_what_is_beaten_beyond_both_intervals_leaves_the_front(points: list[tuple[int, int, int, int]]) -> None:
    """The front is never empty; who is not in it is beaten beyond both intervals by one who is, and no member is."""

    def outcome(number: int, time: int, spread: int, lost: int) -> Outcome:
        right = np.arange(EXAMPLES) >= lost
        logs = np.log(10 + time + np.linspace(-spread, spread, 15) / 4)
        made = Layered({}).outcome(number, (str(number),), "rollback")
        answers = ClassAnswers(right, np.ones(EXAMPLES, np.bool_), (~right).astype(np.float64))
        return replace(made, answers=answers, log_ratios=logs)

    all_ = [outcome(number, time, spread, lost) for number, (time, _, spread, lost) in enumerate(points)]
    members = front(all_)

    bounds = {each.number: (each.ms, each.difference) for each in all_}
    inside = {member.number for member in members}

    def beats(one: int, other: int) -> bool:
        (ms, difference), (their_ms, their_difference) = bounds[one], bounds[other]
        return ms.high < their_ms.low and difference.low > their_difference.high

    assert inside
    for number in bounds:
        assert any(beats(member, number) for member in inside) == (number not in inside)
    chosen = finalists(members, (), 3)
    assert len(chosen) <= 3
    assert [each.ms.value for each in chosen] == sorted(each.ms.value for each in chosen)
    nearness = [each.kl for each in chosen]
    assert all(first > second for first, second in itertools.pairwise(nearness))


def test_finalists_leave_out_the_float_model_and_who_is_weighed_anyway() -> None:
    """The float model bounds which trials are worth weighing, but is none of them; nor are those taken already."""
    model = Layered({"a": 60, "b": 30}, {"a": 1.0, "b": 0.5})
    whole, first, both = (model.outcome(n, kept, "rollback") for n, kept in enumerate([(), ("b",), ("a", "b")]))
    dense = replace(model.outcome(3, LAYERS, "float"), log_ratios=np.full(15, np.log(1.2)))
    assert [each.number for each in finalists([whole, first, both, dense], (whole,), 3)] == [1, 2]
    fast = replace(dense, log_ratios=np.full(15, np.log(0.9)))
    assert finalists([whole, first, both, fast], (whole,), 3) == []


def test_divergence_is_that_of_the_probabilities() -> None:
    """KL(float || trial) in nats, as scipy computes it from the softmax of the scores; 0 of the model from itself."""
    random = np.random.default_rng(0)
    ours, theirs = (random.standard_normal((50, 4)).astype(np.float32) for _ in range(2))
    softmax: Callable[[np.ndarray], np.ndarray] = lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)  # noqa: E731
    expected = [stats.entropy(p, q) for p, q in zip(softmax(theirs), softmax(ours), strict=True)]
    assert divergence(theirs, ours) == pytest.approx(expected, rel=1e-4)
    assert divergence(ours, ours) == pytest.approx(np.zeros(50))


def test_outcomes_are_compared_on_the_examples_that_both_answered(tmp_path: Path) -> None:
    """A trial on the first 100 of 1000 examples is set against the first 100 of the other, and its time against whole INT8."""
    labels = np.arange(1000) % 2
    scores = np.eye(2, dtype=np.float32)[labels]
    reference = ClassReference(labels, np.ones(1000, np.bool_), scores)

    def outcome(record: Record, answered: np.ndarray) -> Outcome:
        np.save(tmp_path / CLASSES_FILE, answered)
        return Outcome.of(record, reference.answers(tmp_path), whole_ms=4.0)

    wrong = scores.copy()
    wrong[:10] = wrong[:10, ::-1]
    ratios = tuple(np.log(np.linspace(1.4, 1.6, 15)).tolist())
    whole = outcome(Record(0, "whole", (), False, 1.0, log_ratios=ratios), wrong)
    one = outcome(Record(1, "sensitivity", ("a",), True, 1.0, log_ratios=ratios), scores[:100])
    failed = Outcome.of(Record(2, "sensitivity", ("b",), True, 1.0, reason="no"), reference.none(), whole_ms=4.0)
    assert one.answers.over(whole.answers).value == pytest.approx(0.1)
    assert whole.ms.value == whole.ms.high == pytest.approx(4.0)
    assert one.ms.value == pytest.approx(6.0)
    found = cost(one, whole)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, one.ms.low - 4, one.ms.high - 4))
    assert (failed.ok, failed.examples, failed.row().accuracy) == (False, 0, None)
