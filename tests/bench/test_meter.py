"""The meter itself: what the fake backend does is recovered exactly by a whole session or run, or it is flagged.

Workers warm up in exactly ten calls here, and a visit is two settle and eight timed calls, so that call number n of a variant
is the ((n - 1) % 10 + 1)th of its visit, and timed from the third on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from weighbridge.bench import Options, run
from weighbridge.bench.config import WorkloadConfig, parse_config
from weighbridge.bench.evidence_of_run import speed_evidence
from weighbridge.bench.journal import Journal, read_journal
from weighbridge.bench.measurements import speed_measurements
from weighbridge.bench.plan import Plan, ShapePlan
from weighbridge.bench.results import Results
from weighbridge.bench.samples import key_of
from weighbridge.bench.session import Contender, Setting, Weighed, weigh
from weighbridge.bench.workloads.fake import prepare_fake

Write = Callable[..., Path]
SHAPE = {"batch_size": 1, "threads": 1}
ROUNDS = 100
CALLS = 10 + 10 * ROUNDS
LATE = 1000
"""A call of the last round but one."""

BEHAVIOURS = {
    "steady": {"latency_ms": 2.0},
    "often": {"stall_every": 5, "stall_ms": 9.0},
    "rarely": {"stall_every": 25, "stall_ms": 9.0},
    "drifting": {"drift_per_call": 0.001},
    "drifting-faster": {"drift_per_call": 0.001, "latency_ms": 0.5},
    "at-load": {"fail_at_open": "the weights are for another model"},
    "at-first-call": {"fault": "exception", "fault_at_call": 1},
    "exception": {"fault": "exception", "fault_at_call": LATE},
    "kill": {"fault": "kill", "fault_at_call": LATE},
    "segfault": {"fault": "segfault", "fault_at_call": LATE},
    "exit": {"fault": "exit", "fault_at_call": LATE},
    "hang": {"fault": "hang", "fault_at_call": LATE},
}
REASONS = {
    "at-load": "the weights are for another model",
    "at-first-call": "RuntimeError: the fake model was told to fail at this call",
    "exception": "RuntimeError: the fake model was told to fail at this call",
    "kill": "its process was killed by signal 9 SIGKILL",
    "segfault": "its process was killed by signal 11 SIGSEGV",
    "exit": "its process ended by itself with status 3",
    "hang": "did not answer within 3 s and was ended",
}


def session(folder: Path, fake_variant: Write, behaviours: dict[str, dict[str, object]], plan: Plan) -> Weighed:
    """One session of these behaviours; `folder` is its run folder."""
    source = folder / "source.fake.json"
    source.write_text("{}", encoding="utf-8")
    config = WorkloadConfig(name="fake", task="tabular-classification", model=str(source))
    prepared = prepare_fake(config, source, folder / "prepared")
    contenders = tuple(Contender(name, fake_variant(folder / name, **told)) for name, told in behaviours.items())
    setting = Setting(prepared.folder, folder, (contenders,), visit_timeout_s=3.0)
    return weigh(setting, plan, Journal(folder), lambda _: True, lambda fraction, text: None)  # noqa: ARG005 - silent


def plan_of(*shapes: dict[str, int], rounds: int = ROUNDS) -> Plan:
    return Plan(tuple(ShapePlan(shape, 2, 8, rounds, 0.02) for shape in shapes), 2.0, 1, 60)


@dataclass(frozen=True)
class Session:
    """One replicate of all the behaviours above, and the folder of its samples and journal."""

    weighed: Weighed
    folder: Path

    def timed(self, variant: str) -> NDArray[np.float64]:
        return self.weighed.replicates[0].timed[variant, key_of(SHAPE)][:, 0]

    def value(self, variant: str, metric: str) -> float:
        found = [
            each.value
            for each in speed_measurements(self.weighed.replicates, "classifier", {})
            if (each.variant, each.metric) == (variant, metric)
        ]
        assert len(found) == 1
        assert found[0] is not None
        return found[0]


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory, fake_variant: Write) -> Session:
    folder = tmp_path_factory.mktemp("meter")
    return Session(session(folder, fake_variant, BEHAVIOURS, plan_of(SHAPE)), folder)


def test_the_calls_are_numbered_as_the_tests_suppose(meter: Session) -> None:
    """Ten warm-up calls, the first apart, then in each round two settle and eight timed calls: all of them are recorded."""
    table = pyarrow.parquet.read_table(meter.folder / "samples" / "replicate-001.parquet").to_pandas()
    for name in ("steady", "often", "rarely", "drifting"):
        phases = table[table["variant"] == name].sort_values("call")["phase"]
        assert phases.tolist() == ["first", *["warmup"] * 9, *(["settle"] * 2 + ["timed"] * 8) * ROUNDS]


@pytest.mark.parametrize(
    ("variant", "metric", "value"),
    [
        ("steady", "latency_p50", 2.0),
        ("steady", "latency_p99", 2.0),
        ("steady", "latency_mean", 2.0),
        ("steady", "throughput", 500.0),
        # Every fifth call stalls: the fifth and the tenth of each visit, two of eight timed ones.
        ("often", "latency_p50", 1.0),
        ("often", "latency_p90", 10.0),
        ("often", "latency_p95", 10.0),
        ("often", "latency_p99", 10.0),
        ("often", "latency_mean", 1 + 9 * 2 / 8),
        # Every 25th stalls: 40 of 800 timed ones. p95 lies a twentieth of the way from the last call without to the first with.
        ("rarely", "latency_p50", 1.0),
        ("rarely", "latency_p90", 1.0),
        ("rarely", "latency_p95", 1.45),
        ("rarely", "latency_p99", 10.0),
        ("rarely", "latency_mean", 1 + 9 * 40 / 800),
    ],
)
def test_latencies_and_stalls_are_recovered_exactly(meter: Session, variant: str, metric: str, value: float) -> None:
    """A stall every so many calls is in the mean and in the percentiles that it reaches, and not in the median."""
    assert meter.value(variant, metric) == pytest.approx(value)


def test_drift_is_recovered_call_by_call(meter: Session) -> None:
    """Each call is a thousandth slower than the one before: the timed ones are exactly those, none smoothed or dropped."""
    number = np.arange(CALLS).reshape(-1, 10)[1:, 2:].ravel()
    np.testing.assert_allclose(meter.timed("drifting"), 1 + 0.001 * number, rtol=1e-6)


def test_drift_cancels_in_the_interleaved_ratio(meter: Session) -> None:
    """Both drift, and their ratio is exactly 0.5; calls of one half against calls of the other would say 0.74."""
    pieces = speed_evidence(meter.weighed.replicates, "drifting", "classifier")
    ratios = {piece.variant: piece.ratios for piece in pieces if piece.metric == "latency_p50"}  # type: ignore[attr-defined]
    assert ratios["drifting-faster"] == pytest.approx([0.5], rel=1e-5)
    half = 8 * ROUNDS // 2
    consecutive = np.median(meter.timed("drifting-faster")[half:]) / np.median(meter.timed("drifting")[:half])
    assert consecutive == pytest.approx(0.5 * (1 + 0.001 * 760.5) / (1 + 0.001 * 260.5), rel=1e-3)


@pytest.mark.parametrize("variant", REASONS)
def test_a_fault_costs_its_variant_with_the_reason(meter: Session, variant: str) -> None:
    """At load, at the first call or at the thousandth: the reason is the fault's own, and what was timed until then is kept."""
    assert meter.weighed.failed[variant].startswith("while it was weighed: ")
    assert REASONS[variant] in meter.weighed.failed[variant]
    until_then = 8 * (LATE - 10) // 10 - 8 if BEHAVIOURS[variant].get("fault_at_call") == LATE else 0
    taken = meter.weighed.replicates[0].timed.get((variant, key_of(SHAPE)), ())
    assert len(taken) == until_then


def test_faults_of_others_cost_nothing(meter: Session) -> None:
    """Seven variants failed, and the five others have every call, and their facts in the journal."""
    sound = BEHAVIOURS.keys() - REASONS.keys()
    assert meter.weighed.failed.keys() == REASONS.keys()
    assert {len(meter.timed(name)) for name in sound} == {8 * ROUNDS}
    (event,) = (event for event in read_journal(meter.folder) if event["event"] == "replicate")
    assert event["workers"].keys() == sound
    assert {facts["calls"] for facts in event["workers"].values()} == {10 * ROUNDS}
    assert all(facts["peak_bytes"] >= facts["warm_bytes"] > 1e6 for facts in event["workers"].values())


def test_the_time_of_each_row_is_recovered_at_every_batch_size(tmp_path: Path, fake_variant: Write) -> None:
    """1 ms a call and 0.25 ms a row are 1.25 ms and 800 samples/s alone, and 3 ms and 2667 samples/s in batches of eight."""
    shapes = [{"batch_size": size, "threads": 1} for size in (1, 8)]
    weighed = session(tmp_path, fake_variant, {"a": {"per_row_ms": 0.25}}, plan_of(*shapes, rounds=5))
    found = {
        (each.metric, each.conditions["batch_size"]): each.value
        for each in speed_measurements(weighed.replicates, "classifier", {})
    }
    assert [found["latency_mean", size] for size in (1, 8)] == pytest.approx([1.25, 3.0])
    assert [found["throughput", size] for size in (1, 8)] == pytest.approx([800.0, 8 / 0.003])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, write_behaviour: Write) -> Results:
    """A whole run of a variant that keeps 200 kB a call, one that draws its answers by lot, and one with a slow first call."""
    folder = tmp_path_factory.mktemp("run")
    candidates = {
        "leaky": {"grow_bytes": 200_000},
        "random": {"outputs": "random"},
        "slow-start": {"first_call_ms": 7.0},
    }
    for name, behaviour in {"base": {}, **candidates}.items():
        write_behaviour(folder / f"{name}.fake.json", **behaviour)
    config = parse_config(
        {
            "workload": {"name": "w", "task": "tabular-classification", "model": "base.fake.json"},
            "variants": [
                {"name": "base", "backend": "fake", "baseline": True},
                *({"name": name, "backend": "fake", "artifact": f"{name}.fake.json"} for name in candidates),
            ],
        },
        "test",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return run(config, Options(out=folder / "run", base=folder, quick=True))


def test_memory_that_grows_is_flagged(results: Results) -> None:
    """200 kB kept in each call of a replicate are told in megabytes, of that variant alone."""
    (sentence,) = (notice for notice in results.notices if "it may leak memory" in notice)
    (event, *_) = (event for event in read_journal(results.folder) if event["event"] == "replicate")
    calls = event["workers"]["leaky"]["calls"]
    assert sentence.startswith("leaky grew by ")
    assert f" over {calls} calls of a replicate (base by " in sentence
    assert float(sentence.split()[3]) == pytest.approx(0.2 * calls, rel=0.1)


def test_answers_drawn_by_lot_are_a_failure(results: Results) -> None:
    """An artifact that answers the same batch otherwise each time is failed with that reason, and the run is exit 4."""
    (row,) = (row for row in results.variants if row.name == "random")
    assert row.status == "failed"
    assert "its answers to the same batch differ from call to call" in row.reason
    assert results.exit_code == 4


def test_the_first_call_is_kept_apart(results: Results) -> None:
    """7 ms more in the first call are in first_call and in no latency."""
    found = {each.metric: each.value for each in results.measurements if each.variant == "slow-start"}
    assert found["first_call"] == pytest.approx(8.0)
    assert found["latency_mean"] == pytest.approx(1.0)
