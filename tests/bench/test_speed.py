"""Statistics of timed calls: every metric at every shape, the best batch, the rate that holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.deciding import JudgingPlan
from weighbridge.bench.evidence import Interval, ReplicateRatios, TooFewCalls
from weighbridge.bench.evidence_of_run import speed_evidence, speed_piece
from weighbridge.bench.judge import VariantState, judge
from weighbridge.bench.measurements import speed_measurements
from weighbridge.bench.rules import Rule, least_calls_for
from weighbridge.bench.samples import CONTROL, Recorder, Replicate, key_of
from weighbridge.bench.sentences import load_sentences
from weighbridge.bench.speed import statistics
from weighbridge.bench.sustained import SustainedRate

PLAIN = {"batch_size": 1, "threads": 1}
OK = {"base": VariantState("ok"), "a": VariantState("ok")}


def replicates(calls: dict[str, dict[str, float]], count: int = 4, each: int = 200) -> list[Replicate]:
    """Replicates in which every timed call of a variant at a shape takes the same milliseconds."""
    timed = {
        (variant, shape): np.full((each, 1), milliseconds)
        for shape, of in calls.items()
        for variant, milliseconds in {**of, CONTROL: of["base"]}.items()
    }
    return [Replicate(number, timed, {}) for number in range(count)]


def evidence(taken: list[Replicate], **more: object) -> dict[tuple[str, str], ReplicateRatios | TooFewCalls]:
    pieces = speed_evidence(taken, "base", "classifier", **more)  # type: ignore[arg-type]
    return {(piece.metric, key_of(piece.conditions)): piece for piece in pieces}  # type: ignore[misc]


def ratio(piece: ReplicateRatios | TooFewCalls) -> float:
    interval = piece.interval("ratio", 0.01, 0.01)
    assert interval is not None
    return interval.value


def test_percentiles_mean_and_throughput_are_ratios_of_replicates() -> None:
    """3 ms against 2 ms is 1.5 in the mean and every percentile that 200 calls support, and 2/3 in throughput."""
    found = evidence(replicates({key_of(PLAIN): {"base": 2.0, "a": 3.0}}))
    for metric in ("latency_mean", "latency_p50", "latency_p90", "latency_p95"):
        assert ratio(found[metric, key_of(PLAIN)]) == pytest.approx(1.5)
    assert ratio(found["throughput", key_of(PLAIN)]) == pytest.approx(2 / 3)


def test_a_percentile_below_its_least_n_is_refused_with_the_seconds_it_would_take() -> None:
    """p99 of 200 calls a replicate is no number: 662 are needed, and the sentence says what would buy them."""
    pieces = evidence(replicates({key_of(PLAIN): {"base": 2.0, "a": 3.0}}))
    piece = pieces["latency_p99", key_of(PLAIN)]
    assert piece == TooFewCalls("a", "latency_p99", PLAIN, 200, 662)
    rule = Rule("latency_p99", "ratio", 1.03, maximum=True)
    judgement = judge([rule], [piece], OK, baseline="base", plan=JudgingPlan(10.0, 133.0))
    (gate,) = judgement.gates
    assert gate.verdict == "not_evaluated"
    assert "n too small, 200 of 662 timed calls a replicate; measure.max_seconds = 133 would buy them" in gate.sentence
    assert judgement.exit_code == 3
    assert judgement.comparisons == ()


def test_throughput_of_callers_at_once_is_littles_law() -> None:
    """Four callers whose calls take 8 ms at batch 2 are served 4 x 2 / 0.008 = 1,000 samples/s."""
    shape = {**PLAIN, "batch_size": 2, "concurrency": 4}
    found = speed_measurements(replicates({key_of(shape): {"base": 8.0}}), "classifier", {})
    assert next(each.value for each in found if each.metric == "throughput") == pytest.approx(1000)


def test_at_a_rate_there_is_latency_and_no_throughput() -> None:
    """In open loop what arrives is what is served, so that throughput would say nothing."""
    found = evidence(replicates({key_of({**PLAIN, "rate": 50}): {"base": 8.0, "a": 4.0}}))
    assert {metric for metric, _ in found} >= {"latency_p50", "latency_p95"}
    assert not [metric for metric, _ in found if metric == "throughput"]


def test_the_best_batch_is_each_variants_own() -> None:
    """Base is best at batch 8 (2,000/s), a at batch 1 (1,000/s): the ratio of the bests is 1/2."""
    calls = {
        key_of(PLAIN): {"base": 1.0, "a": 1.0},
        key_of({**PLAIN, "batch_size": 8}): {"base": 4.0, "a": 16.0},
    }
    best = key_of({**PLAIN, "batch_size": "best"})
    assert ratio(evidence(replicates(calls))["throughput", best]) == pytest.approx(0.5)
    values = {
        each.variant: (each.value, each.note)
        for each in speed_measurements(replicates(calls), "classifier", {})
        if each.conditions.get("batch_size") == "best"
    }
    assert values == {
        "base": (pytest.approx(2000), "best at batch_size 8"),
        "a": (pytest.approx(1000), "best at batch_size 1"),
    }


def test_a_rule_judges_the_best_batch_only_where_it_names_it() -> None:
    """Without conditions a throughput rule has a verdict a batch size; with batch_size = best it has one."""
    calls = {key_of({**PLAIN, "batch_size": size}): {"base": 1.0, "a": 1.0} for size in (1, 8)}
    pieces = list(evidence(replicates(calls)).values())
    everywhere = Rule("throughput", "ratio", 0.9, maximum=False)
    named = Rule("throughput", "ratio", 0.9, maximum=False, conditions={"batch_size": "best"})
    assert [g.conditions["batch_size"] for g in judge([everywhere], pieces, OK, baseline="base").gates] == [1, 8]
    assert [g.conditions["batch_size"] for g in judge([named], pieces, OK, baseline="base").gates] == ["best"]


def rates(latencies: dict[int, tuple[float, float]]) -> list[Replicate]:
    shapes = {key_of({**PLAIN, "rate": rate}): {"base": b, "a": a} for rate, (b, a) in latencies.items()}
    return replicates({**shapes, key_of(PLAIN): {"base": 9.0, "a": 4.0}})


def test_the_sustained_rate_is_the_highest_that_holds_the_limit() -> None:
    """p95 of base is within 20 ms up to 50/s, that of a up to 100/s: twice the rate."""
    taken = rates({50: (15.0, 5.0), 100: (45.0, 18.0), 200: (900.0, 70.0)})
    piece = evidence(taken, latency_limit={"latency_p95": 20.0})["sustained_rate", key_of(PLAIN)]
    assert ratio(piece) == 2.0
    values = {
        each.variant: each.value
        for each in speed_measurements(taken, "classifier", {"latency_p95": 20.0})
        if each.metric == "sustained_rate"
    }
    assert values == {"base": 50, "a": 100}


@pytest.mark.parametrize("alone", [PLAIN, {**PLAIN, "concurrency": 1}])
def test_a_rate_that_one_server_cannot_serve_is_not_sustained(alone: dict[str, int]) -> None:
    """Calls of 9 ms serve 111 requests/s: at 120/s the few requests of a visit hold the limit, and the queue grows all the same.

    A caller alone is one also where it is told as one of several numbers of callers.
    """
    shapes = {key_of({**PLAIN, "rate": rate}): {"base": b, "a": 5.0} for rate, b in ((100, 15.0), (120, 19.0))}
    taken = replicates({**shapes, key_of(alone): {"base": 9.0, "a": 4.0}})
    found = list(speed_measurements(taken, "classifier", {"latency_p95": 20.0}))
    values = {each.variant: each.value for each in found if each.metric == "sustained_rate"}
    assert values == {"base": 100, "a": 120}
    noted = [each for each in found if each.note.startswith("over its capacity")]
    assert {(each.variant, each.conditions["rate"]) for each in noted} == {("base", 120)}
    piece = evidence(taken, latency_limit={"latency_p95": 20.0})["sustained_rate", key_of(PLAIN)]
    assert ratio(piece) == pytest.approx(1.2)


def test_a_rate_over_capacity_is_noted() -> None:
    """9 ms a call serve about 111 requests/s: at 200/s the value says that the queue grows, at 100/s it does not."""
    found = speed_measurements(rates({100: (15.0, 5.0), 200: (900.0, 70.0)}), "classifier", {})
    notes = {
        each.conditions["rate"]: each.note
        for each in found
        if each.variant == "base" and each.metric == "latency_p50" and "rate" in each.conditions
    }
    assert notes == {100: "", 200: "over its capacity of about 111 requests/s: the queue grows as long as it is fed"}


@pytest.mark.parametrize(
    ("conditions", "calls"), [({}, 662), ({"batch_size": 1}, 662), ({"batch_size": 8}, 0), ({"rate": 5}, 0)]
)
def test_a_percentile_rule_asks_for_calls_where_it_holds(conditions: dict[str, int], calls: int) -> None:
    """A p99 rule needs 662 calls at the shapes that its conditions allow, and none elsewhere."""
    rule = Rule("latency_p99", "ratio", 1.0, maximum=True, conditions=conditions)
    assert least_calls_for([rule], PLAIN) == calls


@pytest.mark.parametrize(("shape", "calls"), [({**PLAIN, "rate": 5}, 662), (PLAIN, 0)])
def test_a_rule_on_the_sustained_rate_asks_for_the_calls_of_its_percentile(shape: dict[str, int], calls: int) -> None:
    """With a limit on p99 it needs 662 calls at every rate, and none of a caller alone."""
    rule = Rule("sustained_rate", "value", 50.0, maximum=False)
    assert least_calls_for([rule], shape, {"latency_p99": 20.0}) == calls


def test_best_batch_and_sustained_rate_are_told_in_a_sentence() -> None:
    """A reader of the run sees each variant's best batch size and the highest rate that it holds."""
    taken = rates({50: (15.0, 5.0), 100: (45.0, 18.0)})
    more = replicates({key_of({**PLAIN, "batch_size": 8}): {"base": 4.0, "a": 16.0}})
    both = [Replicate(one.number, {**one.timed, **two.timed}, {}) for one, two in zip(taken, more, strict=True)]
    limit = {"latency_p95": 20.0}
    assert list(load_sentences(list(speed_measurements(both, "classifier", limit)), limit)) == [
        "Best throughput of the batch sizes: base 2000 samples/s (batch_size 8), a 500 samples/s (batch_size 8).",
        "Highest of the rates with latency_p95 within 20 ms at batch_size 1: base 50/s, a 100/s.",
    ]


def in_groups(number: int) -> Replicate:
    """A replicate of two groups, the second at a third of the pace: base 2 ms, a and b 3 ms, each in a group of its own."""
    recorder = Recorder(number)
    for after, pace, candidate in ((0, 1.0, "a"), (10_000, 3.0, "b")):
        for round_ in range(1, 11):
            for variant, milliseconds in (("base", 2.0), (CONTROL, 2.0), (candidate, 3.0)):
                for shape in (PLAIN, {**PLAIN, "rate": 50}):
                    calls = [[pace * milliseconds]] * 10
                    where = {"variant": variant, "shape": key_of(shape), "round_": after + round_, "visit": 0}
                    recorder.add(calls, ["timed"] * 10, **where)  # type: ignore[arg-type]
    return Replicate.of(recorder.columns)


def test_a_rate_is_sustained_by_the_visits_of_a_candidates_own_group() -> None:
    """The baseline took 2 ms a request beside a, and 6 ms beside b: within a limit of 5 ms it holds 50/s beside a alone."""
    taken = [in_groups(number) for number in range(4)]
    pieces = speed_evidence(taken, "base", "classifier", latency_limit={"latency_p90": 5.0})
    found = {each.variant: each for each in pieces if each.metric == "sustained_rate"}
    for name, latency, difference in (("a", 2.0, 0), ("b", 6.0, 0)):
        piece = found[name]
        assert isinstance(piece, SustainedRate)
        assert piece.baseline[0].latencies == (latency,) * 4
        assert piece.interval("difference", 0.01, 0.01) == Interval(difference, difference, difference, 4)


@pytest.mark.parametrize("metric", ["latency_p50", "latency_mean", "latency_p90"])
def test_a_candidate_of_a_group_is_compared_with_the_visits_of_its_own_group(metric: str) -> None:
    """Where the machine slows down from group to group, both candidates are still 1.5 times the baseline, and the twin 1."""
    pieces = [
        piece
        for piece in speed_evidence([in_groups(number) for number in range(4)], "base", "classifier")
        if piece.metric == metric and piece.conditions == PLAIN
    ]
    assert {piece.variant for piece in pieces} == {"a", "b"}
    for piece in pieces:
        assert isinstance(piece, ReplicateRatios)
        assert piece.ratios == pytest.approx([1.5] * 4)
        assert piece.control == pytest.approx([1.0] * 4)
        assert np.array(piece.candidate) / np.array(piece.baseline) == pytest.approx([1.5] * 4)


def drifting(number: int, pace: list[float]) -> Replicate:
    """A replicate whose machine has another pace in each round: base 2 ms, a 3 ms, its twin as base; ten calls a visit."""
    recorder = Recorder(number)
    for round_, slow in enumerate(pace, 1):
        for variant, milliseconds in (("base", 2.0), ("a", 3.0), (CONTROL, 2.0)):
            calls = [[slow * milliseconds]] * 10
            recorder.add(calls, ["timed"] * 10, variant=variant, shape=key_of(PLAIN), round_=round_, visit=0)
    return Replicate.of(recorder.columns)


@given(st.lists(st.floats(0.5, 3), min_size=1, max_size=9))
def test_a_ratio_of_medians_does_not_see_the_pace_of_the_machine(pace: list[float]) -> None:
    """Whatever the machine's pace in each round, 3 ms against 2 ms is a p50 ratio of 1.5 in that replicate."""
    found = evidence([drifting(number, pace) for number in range(4)])["latency_p50", key_of(PLAIN)]
    assert isinstance(found, ReplicateRatios)
    assert found.ratios == pytest.approx((1.5,) * 4)
    assert found.control == pytest.approx((1.0,) * 4)


def test_a_ratio_of_medians_is_the_median_of_the_rounds_ratios() -> None:
    """A visit that something else slowed threefold does not move the ratio of a replicate of five rounds; the mean sees it."""
    recorder = Recorder(1)
    for round_, a in enumerate([3.0, 3.0, 9.0, 3.0, 3.0], 1):
        for variant, milliseconds in (("base", 2.0), ("a", a)):
            recorder.add([[milliseconds]], ["timed"], variant=variant, shape=key_of(PLAIN), round_=round_, visit=0)
    found = evidence([Replicate.of(recorder.columns)] * 4)
    assert ratio(found["latency_p50", key_of(PLAIN)]) == pytest.approx(1.5)
    assert ratio(found["latency_mean", key_of(PLAIN)]) == pytest.approx(4.2 / 2)


def in_rounds(number: int, milliseconds: dict[str, list[float]]) -> Replicate:
    """A replicate with one timed call of each variant in each round."""
    recorder = Recorder(number)
    for variant, of_rounds in milliseconds.items():
        for round_, each in enumerate(of_rounds, 1):
            recorder.add([[each]], ["timed"], variant=variant, shape=key_of(PLAIN), round_=round_, visit=0)
    return Replicate.of(recorder.columns)


def test_a_candidate_is_compared_with_the_baseline_and_its_twin() -> None:
    """Of 6 ms the six ratios are 3, 1.5, 1.5 to the baseline and 2, 2, 2 to its twin: 2 in the middle.

    Of means it is over the geometric mean of 10/3 ms and 3 ms.
    """
    taken = [in_rounds(number, {"base": [2, 4, 4], CONTROL: [3, 3, 3], "a": [6, 6, 6]}) for number in range(4)]
    found = evidence(taken)
    assert ratio(found["latency_p50", key_of(PLAIN)]) == pytest.approx(2.0)
    assert ratio(found["latency_mean", key_of(PLAIN)]) == pytest.approx(6 / (10 / 3 * 3) ** 0.5)
    piece = found["latency_p50", key_of(PLAIN)]
    assert isinstance(piece, ReplicateRatios)
    assert piece.control == pytest.approx([0.75] * 4)


def test_a_twin_that_was_not_weighed_is_no_reference() -> None:
    """Without the twin 6 ms against 2, 4 and 4 ms is 1.5, and against one that failed before the last replicate too."""
    alone = {"base": [2.0, 4.0, 4.0], "a": [6.0] * 3}
    taken = [in_rounds(number, alone) for number in range(3)]
    for last in (alone, {**alone, CONTROL: [4.0, 4.0, 4.0]}):
        found = evidence([*taken, in_rounds(3, last)])
        assert ratio(found["latency_p50", key_of(PLAIN)]) == pytest.approx(1.5)


def test_the_twin_stands_for_its_own_model_alone() -> None:
    """Set against a variant that is not the baseline, a candidate is compared with that variant only."""
    milliseconds = {"base": [2.0] * 3, CONTROL: [2.0] * 3, "a": [6.0] * 3, "b": [3.0] * 3}
    taken = [in_rounds(number, milliseconds) for number in range(4)]
    p50 = next(each for each in statistics([key_of(PLAIN)], "classifier", {}) if each.metric.name == "latency_p50")
    for other, expected in (("b", 2.0), ("base", 3.0)):
        piece = speed_piece(p50, taken, "a", other, planned=4, twin_of="base")
        assert isinstance(piece, ReplicateRatios)
        assert ratio(piece) == pytest.approx(expected)


SHORT = {"batch_size": 1, "prompt_length": 8, "max_new_tokens": 9, "threads": 1}


def growing(number: int) -> Replicate:
    """Requests whose first four gaps take 2 ms and whose last four take 4 ms; of a 2 ms and 2 ms: it does not grow."""
    recorder = Recorder(number)
    for variant, late in (("base", 4.0), ("a", 2.0), (CONTROL, 4.0)):
        call = [9.0, *[2.0] * 4, *[late] * 4]
        recorder.add([call] * 3, ["timed"] * 3, variant=variant, shape=key_of(SHORT), round_=1, visit=0)
    return Replicate.of(recorder.columns)


def test_a_token_takes_as_long_as_its_past_makes_it() -> None:
    """TPOT at a past of 10 is 2 ms for both, at 14 it is 4 ms and 2 ms: ratios 1 and 0.5 there, 2/3 over the whole request."""
    taken = [growing(number) for number in range(4)]
    values = {
        (each.variant, each.conditions.get("past_length")): each.value
        for each in speed_measurements(taken, "decoder", {})
        if each.metric == "tpot"
    }
    assert values == {("base", None): 3, ("base", 10): 2, ("base", 14): 4, ("a", None): 2, ("a", 10): 2, ("a", 14): 2}
    found = {
        piece.conditions.get("past_length"): ratio(piece)  # type: ignore[arg-type]
        for piece in speed_evidence(taken, "base", "decoder")
        if piece.metric == "tpot"
    }
    assert found == {None: pytest.approx(2 / 3), 10: pytest.approx(1), 14: pytest.approx(0.5)}


def test_a_rule_on_the_time_per_token_judges_the_past_only_where_it_names_one() -> None:
    """Without conditions TPOT is judged over whole requests; a rule that names a past length is judged there."""
    pieces = list(speed_evidence([growing(number) for number in range(4)], "base", "decoder"))
    places = {}
    for name, conditions in (("whole", {}), ("late", {"past_length": 14})):
        rule = Rule("tpot", "ratio", 1.03, maximum=True, conditions=conditions)
        places[name] = [piece.conditions for piece in pieces if rule.concerns(piece)]
    assert places == {"whole": [SHORT], "late": [{**SHORT, "past_length": 14}]}
