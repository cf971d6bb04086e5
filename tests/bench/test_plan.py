"""The plan: what the time budget buys, by hand."""

from weighbridge.bench.plan import make_plan
from weighbridge.bench.samples import key_of

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
