"""The plan: what the time budget buys, by hand."""

import math

import pytest
from weighbridge.bench.plan import Plan, make_plan, refined
from weighbridge.bench.samples import CONTROL, Recorder, Replicate, key_of

SHAPE = {"batch_size": 1, "threads": 1}
KEY = key_of(SHAPE)


def test_short_calls_get_three_settle_and_ten_timed_calls_and_long_ones_one_and_one() -> None:
    """A 1 ms call is planned as 3 + 10 in 15 rounds, a 60 ms call as 1 + 1."""
    fast = make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=60).shapes[0]
    assert (fast.settle, fast.timed, fast.rounds) == (3, 10, 15)
    slow = make_plan([SHAPE], {KEY: [60.0, 60.0]}, max_seconds=60).shapes[0]
    assert (slow.settle, slow.timed) == (1, 1)


def test_the_budget_buys_replicates_and_never_fewer_than_four() -> None:
    """15 rounds of 2 x 13 ms are 0.39 s: 7 s buy 16 replicates, 60 s all 24; a 3 s model gets 4, over the budget and said so."""
    assert make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=7).replicates == 16
    assert make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=60).replicates == 24
    slow = make_plan([SHAPE], {KEY: [3000.0, 3000.0]}, max_seconds=60)
    assert (slow.replicates, slow.shapes[0].rounds) == (4, 5)
    assert "over max_seconds = 60" in slow.sentence()


def test_a_small_budget_gives_fewer_rounds() -> None:
    """2 s are aimed at 8 replicates: a round of 26 ms fits 9 times into 0.25 s."""
    assert make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=2).shapes[0].rounds == 9


def test_a_rule_on_p99_gets_its_662_calls_where_the_budget_buys_them() -> None:
    """662 calls of ten a visit are 67 rounds; without such a rule there are 15."""
    plan = make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=60, least_calls={KEY: 662})
    assert plan.shapes[0].rounds == 67
    assert plan.percentile_calls == 0


def test_a_percentile_that_the_budget_does_not_buy_is_told() -> None:
    """662 visits of one settle and one timed call of 60 ms, twice, four times over, are 636 s: the plan keeps to its rounds."""
    plan = make_plan([SHAPE], {KEY: [60.0, 60.0]}, max_seconds=60, least_calls={KEY: 662})
    assert plan.shapes[0].rounds == 15
    assert (
        "needs 662 timed calls a replicate: it will not be judged; max_seconds = 636 would buy them" in plan.sentence()
    )


def test_callers_at_once_make_as_many_calls_each_as_one_alone() -> None:
    """Four callers of a 1 ms call make 12 settle and 40 timed calls a visit, which last no longer than one caller's."""
    shape = {**SHAPE, "concurrency": 4}
    planned = make_plan([shape], {key_of(shape): [1.0, 1.0]}, max_seconds=60).shapes[0]
    assert (planned.settle, planned.timed) == (12, 40)
    assert planned.round_seconds == 0.026


def test_a_visit_at_a_rate_lasts_as_long_as_its_requests_take_to_arrive() -> None:
    """40 requests at 100/s take 0.4 s of each of two variants; of one that needs 50 ms each, 2 s."""
    shape = {**SHAPE, "rate": 100}
    key = key_of(shape)
    planned = make_plan([shape], {key: [1.0, 1.0]}, max_seconds=600).shapes[0]
    assert (planned.settle, planned.timed, planned.rounds, planned.round_seconds) == (10, 30, 5, 0.8)
    assert make_plan([shape], {key: [1.0, 50.0]}, max_seconds=600).shapes[0].round_seconds == 2.4


def test_quick_looks_once() -> None:
    """One look is four replicates, whatever the budget."""
    assert make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=60, looks=1).replicates == 4


def replicate(ratios: list[float]) -> Replicate:
    """A replicate of one call a visit: base 1 ms, a by the given ratio in each round."""
    recorder = Recorder(1)
    for round_, value in enumerate(ratios, 1):
        for variant, milliseconds in (("base", 1.0), ("a", value)):
            recorder.add([[milliseconds]], ["timed"], variant=variant, shape=KEY, round_=round_, visit=0)
    return Replicate.of(recorder.columns)


def plan_for(max_seconds: float) -> Plan:
    return make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=max_seconds)


def test_a_quiet_machine_keeps_its_rounds() -> None:
    """Ratios that scatter by half a percent need no more than 15 rounds, whatever the budget and wherever they lie."""
    for level in (1.0, 3.0):
        quiet = refined(plan_for(600), replicate([level, 1.005 * level, 0.995 * level]))
        assert quiet == plan_for(600)


def test_a_noisy_machine_gets_more_rounds() -> None:
    """Rounds at 0, +2 and -2 %: 1.2533 x 1.4826 x 2 % is 7.4 times the half percent of an instance, 55 rounds."""
    up = 1.02
    noisy = refined(plan_for(600), replicate([1.0, up, 1 / up]))
    assert noisy.shapes[0].rounds == math.floor((1.2533 * 1.4826 * math.log(up) / 0.005) ** 2) == 54
    assert noisy.seconds_per_replicate == pytest.approx(54 * 0.026)
    assert noisy.replicates == plan_for(600).replicates


def test_the_budget_bounds_the_rounds_of_a_noisy_machine() -> None:
    """24 replicates of 15 rounds take 9.36 s: a budget of twice that allows 30 rounds, and one of that allows 15."""
    wild = replicate([1.0, 1.3, 1 / 1.3])
    assert refined(plan_for(18.72), wild).shapes[0].rounds == 30
    assert refined(plan_for(9.36), wild).shapes[0].rounds == 15


def test_a_plan_of_one_look_stays_fast() -> None:
    """Four replicates are a fast look: noise buys no more rounds there."""
    fast = make_plan([SHAPE], {KEY: [1.0, 1.0]}, max_seconds=600, looks=1)
    assert refined(fast, replicate([1.0, 1.3, 1 / 1.3])) == fast


def test_one_variant_alone_changes_no_plan() -> None:
    """Without a second variant there is no ratio to be noisy."""
    recorder = Recorder(1)
    recorder.add([[1.0]], ["timed"], variant="base", shape=KEY, round_=1, visit=1)
    assert refined(plan_for(600), Replicate.of(recorder.columns)) == plan_for(600)


def test_the_baselines_visits_in_every_group_cost_time_and_change_no_visit() -> None:
    """Three groups visit a 60 ms baseline and its twin three times, three 10 ms candidates once: 390 ms a call, of 2 + 5."""
    planned = make_plan([SHAPE], {KEY: [60.0, 60.0, 10.0, 10.0, 10.0]}, max_seconds=600, visits=[3, 3, 1, 1, 1]).shapes[
        0
    ]
    assert (planned.settle, planned.timed) == (2, 5)
    assert planned.round_seconds == pytest.approx(0.39 * 7)


@pytest.mark.parametrize("first", ["base", "a"])
def test_the_noise_of_every_group_counts_whoever_is_visited_first(first: str) -> None:
    """Candidates of two groups share no round, and each shares its own with the control: that of b is noisy, and is heard."""
    up, recorder = 1.02, Recorder(1)
    for after, candidate, ratios in ((0, "a", (1.0, 1.0, 1.0)), (10_000, "b", (1.0, up, 1 / up))):
        names = [first, *(name for name in ("base", CONTROL, candidate) if name != first)]
        for round_, value in enumerate(ratios, after + 1):
            for variant in names if candidate == "a" else ("base", CONTROL, "b"):
                milliseconds = value if variant == "b" else 1.0
                recorder.add([[milliseconds]], ["timed"], variant=variant, shape=KEY, round_=round_, visit=0)
    noisy = refined(plan_for(600), Replicate.of(recorder.columns))
    assert noisy.shapes[0].rounds == math.floor((1.2533 * 1.4826 * math.log(up) / 0.005) ** 2)


def test_the_longest_visit_is_a_round_of_all_with_the_callers_in_turn() -> None:
    """13 calls of 1 ms of two variants are 26 ms, four callers in turn 104 ms; 40 requests at 0.5/s take 80 s of each of two."""
    four, rare = {**SHAPE, "concurrency": 4}, {**SHAPE, "rate": 0.5}
    lengths = {key_of(shape): [1.0, 1.0] for shape in (SHAPE, four, rare)}
    assert make_plan([SHAPE, four], lengths, max_seconds=60).longest_visit_seconds == pytest.approx(0.104)
    assert make_plan([SHAPE, rare], lengths, max_seconds=60).longest_visit_seconds == pytest.approx(160)
