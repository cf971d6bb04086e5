"""The session: what is recorded, who is visited when, and what a failure costs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from weighbridge.bench.journal import Journal, read_journal
from weighbridge.bench.plan import Plan, ShapePlan
from weighbridge.bench.reporter import ignore
from weighbridge.bench.samples import CONTROL, key_of, read_replicates
from weighbridge.bench.session import Contender, Setting, Weighed, groups_that_fit, patience, weigh
from weighbridge.bench.workloads.base import Prepared

SHAPE = {"batch_size": 1, "threads": 1}
KEY = key_of(SHAPE)
FakeVariant = Callable[..., Path]


def small_plan(replicates: int = 1, rounds: int = 3) -> Plan:
    return Plan((ShapePlan(SHAPE, 3, 10, rounds, 0.04),), 0.1, replicates, 60)


def setting_of(run: Path, prepared: Prepared, contenders: list[Contender], **more: float) -> Setting:
    return Setting(prepared.folder, run, (tuple(contenders),), **more)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_known_latencies_are_recovered_exactly(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """The synthetic clock's 2 ms and 1 ms come back as exactly 2 ms and 1 ms, first call and settle calls apart."""
    contenders = [
        Contender("slow", fake_variant(tmp_path / "slow", latency_ms=2.0, first_call_ms=7.0)),
        Contender("fast", fake_variant(tmp_path / "fast", latency_ms=1.0)),
    ]
    weighed = weigh(setting_of(run, fake_workload, contenders), small_plan(), Journal(run), lambda _: True, ignore)
    (replicate,) = weighed.replicates
    assert replicate.timed["slow", KEY] == pytest.approx(np.full((30, 1), 2.0))
    assert replicate.timed["fast", KEY] == pytest.approx(np.full((30, 1), 1.0))
    assert replicate.first["slow", KEY] == pytest.approx(9.0)
    assert weighed.failed == {}


def test_every_round_visits_every_variant_once(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """Each round holds one visit a variant of three settle and ten timed calls, and the order is not always the same."""
    contenders = [Contender(name, fake_variant(tmp_path / name)) for name in ("a", "b", "c")]
    weigh(setting_of(run, fake_workload, contenders), small_plan(rounds=8), Journal(run), lambda _: True, ignore)
    table = pyarrow.parquet.read_table(run / "samples" / "replicate-001.parquet").to_pandas()
    visits = table[table["round"] > 0]
    assert (visits.groupby(["round", "variant", "phase"]).size().unstack() == [3, 10]).all(axis=None)
    orders = {tuple(rows["variant"].drop_duplicates()) for _, rows in visits.groupby("round")}
    assert len(orders) > 1


def test_samples_read_back_as_they_were_taken(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """The parquet files hold the very samples that the session worked with."""
    contenders = [Contender("a", fake_variant(tmp_path / "a", noise=0.1))]
    weighed = weigh(setting_of(run, fake_workload, contenders), small_plan(2), Journal(run), lambda _: False, ignore)
    for taken, read in zip(weighed.replicates, read_replicates(run), strict=True):
        assert read.number == taken.number
        np.testing.assert_array_equal(read.timed["a", KEY], taken.timed["a", KEY])


def test_a_crash_costs_only_its_variant(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """A variant killed in its 60th call is failed with the signal; the other has all its samples in every replicate."""
    contenders = [
        Contender("good", fake_variant(tmp_path / "good")),
        Contender("bad", fake_variant(tmp_path / "bad", fault="kill", fault_at_call=60)),
    ]
    plan = small_plan(4, rounds=10)
    weighed = weigh(setting_of(run, fake_workload, contenders), plan, Journal(run), lambda _: True, ignore)
    assert "killed by signal 9 SIGKILL" in weighed.failed["bad"]
    assert [len(each.timed["good", KEY]) for each in weighed.replicates] == [100] * 4
    assert [("bad", KEY) in each.timed for each in weighed.replicates[1:]] == [False] * 3
    events = [event for event in read_journal(run) if event["event"] == "replicate"]
    assert all("SIGKILL" in event["failed"]["bad"] for event in events)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("exception", "RuntimeError: the fake model was told to fail"),
        ("segfault", "SIGSEGV"),
        ("exit", "status 3"),
        ("memory", "MemoryError"),
    ],
)
def test_every_fault_has_its_reason(
    fault: str, reason: str, tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """An exception, a segfault, an exit and memory that runs out in a call are each told apart."""
    contenders = [Contender("bad", fake_variant(tmp_path / "bad", fault=fault, fault_at_call=20))]
    weighed = weigh(setting_of(run, fake_workload, contenders), small_plan(), Journal(run), lambda _: True, ignore)
    assert reason in weighed.failed["bad"]


def test_a_hang_costs_its_time_limit(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """A variant that hangs is ended at the limit and the others are weighed to the end."""
    contenders = [
        Contender("good", fake_variant(tmp_path / "good")),
        Contender("bad", fake_variant(tmp_path / "bad", fault="hang", fault_at_call=25)),
    ]
    setting = setting_of(run, fake_workload, contenders, visit_timeout_s=3.0)
    weighed = weigh(setting, small_plan(), Journal(run), lambda _: True, ignore)
    assert "did not answer within 3 s" in weighed.failed["bad"]
    assert len(weighed.replicates[0].timed["good", KEY]) == 30


def test_looks_come_after_4_6_8_and_12_replicates(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """The judge is asked after 4, 6, 8 and 12 replicates, and its yes ends the weighing."""
    contenders = [Contender("a", fake_variant(tmp_path / "a"))]
    asked: list[int] = []

    def decided(weighed: Weighed) -> bool:
        asked.append(len(weighed.replicates))
        return len(weighed.replicates) == 8

    weigh(setting_of(run, fake_workload, contenders), small_plan(12, rounds=1), Journal(run), decided, ignore)
    assert asked == [4, 6, 8]


def test_variants_that_do_not_fit_are_weighed_in_turn_with_the_baseline() -> None:
    """Where memory is short each candidate stands with the baseline and its twin only; where it is not, all together."""
    contenders = [Contender(name, Path()) for name in ("base", CONTROL, "a", "b")]
    peaks = {"base": 100, "a": 100, "b": 100}
    assert groups_that_fit(contenders, peaks, 1000) == (tuple(contenders),)
    base, twin, a, b = contenders
    assert groups_that_fit(contenders, peaks, 400) == ((base, twin, a), (base, twin, b))


def test_each_group_has_rounds_of_its_own(
    tmp_path: Path, run: Path, fake_workload: Prepared, fake_variant: FakeVariant
) -> None:
    """Two candidates in two groups share no round with each other, and each shares all of its rounds with the baseline."""
    base, a, b = (Contender(name, fake_variant(tmp_path / name)) for name in ("base", "a", "b"))
    setting = Setting(fake_workload.folder, run, ((base, a), (base, b)))
    (replicate,) = weigh(setting, small_plan(), Journal(run), lambda _: True, ignore).replicates
    taken = {name: set(replicate.rounds[name, KEY].tolist()) for name in ("base", "a", "b")}
    assert len(taken["a"]) == len(taken["b"]) == 3
    assert not taken["a"] & taken["b"]
    assert taken["base"] == taken["a"] | taken["b"]


def test_long_calls_are_waited_for_ten_times_as_long_as_planned() -> None:
    """A round of 40 ms is a hang after two minutes, one of 30 s after five."""
    assert patience(small_plan()) == 120
    assert patience(Plan((ShapePlan(SHAPE, 1, 1, 5, 30.0),), 150.0, 4, 60)) == 300


def test_equal_conditions_have_equal_keys() -> None:
    """The key of conditions does not depend on their order and reads back as them."""
    assert key_of({"threads": 1, "batch_size": 8}) == key_of({"batch_size": 8, "threads": 1})
    assert json.loads(key_of({"batch_size": 8})) == {"batch_size": 8}
