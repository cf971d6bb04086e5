"""The harnesses: rows that replay a run's samples through pytest-benchmark, in sessions of their own over runs of known truth."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.dataset
import pytest
import weighbridge.bench
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.config import Config, parse_config
from weighbridge.bench.harness import Replay, Row, clock_of, gates_of, record_row, replay_of
from weighbridge.bench.pytest_runs import Asked, Done
from weighbridge.bench.results import Gate, Results, VariantRow
from weighbridge.bench.running import Options
from weighbridge.bench.samples import Recorder, key_of
from weighbridge.bench.workloads import builtin

pytest_plugins = ["pytester"]

Inner = Callable[..., pytest.RunResult]
Write = Callable[..., Path]
Runs = list[tuple[Config, Options]]

HARNESSES = ("--pyargs", "weighbridge.bench", "--weighbridge-config=weighbridge.toml")
TWO_SHAPES = {"batch_sizes": [1, 8]}


def written(pytester: pytest.Pytester) -> dict[str, Any]:
    """What --benchmark-json=out.json wrote."""
    found: dict[str, Any] = json.loads((pytester.path / "out.json").read_text(encoding="utf-8"))
    return found


def test_a_row_holds_the_samples_of_the_run(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """Every row's data are the parquet's timed milliseconds / 1000 to the last bit; groups are workload and shape."""
    write_project(models={"fast": {"latency_ms": 1.0, "noise": 0.1}}, measure=TWO_SHAPES)
    result = inner_pytest(*HARNESSES, "--benchmark-json=out.json")
    result.assert_outcomes(passed=6, skipped=1)
    rows = {row["name"]: row for row in written(pytester)["benchmarks"]}
    assert len(rows) == 6
    assert len(written_runs) == 1
    (folder,) = (pytester.path / "runs").iterdir()
    table = pyarrow.dataset.dataset(sorted((folder / "samples").iterdir())).to_table().to_pandas()
    for size in (1, 8):
        row = rows[f"test_classifier[toy-batch{size}-fast]"]
        shape = key_of({"batch_size": size, "threads": 1})
        calls = table[(table.variant == "fast") & (table.conditions == shape) & (table.phase == "timed")]
        assert row["stats"]["data"] == [milliseconds / 1e3 for milliseconds in calls.milliseconds]
        assert row["stats"]["rounds"] == 200
        assert row["group"] == f"toy batch{size}"
        assert row["params"] == {"workload": "toy", "shape": f"batch{size}", "variant": "fast"}


def test_extra_info_holds_what_the_statistics_lack(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """Percentiles (or why there is none), quality, the ratio's interval, the control, verdicts; session facts beside the rows."""
    write_project(gates={"rules": [{"metric": "latency_p50", "max": 0.6, "variants": ["fast"]}]})
    inner_pytest(*HARNESSES, "--benchmark-json=out.json").assert_outcomes(passed=3, skipped=1)
    rows = {row["params"]["variant"]: row["extra_info"] for row in written(pytester)["benchmarks"]}
    fast = rows["fast"]
    assert fast["verdict"] == "pass"
    assert [gate["verdict"] for gate in fast["gates"]] == ["pass"]
    assert fast["measurements"]["latency_p95"]["value"] == pytest.approx(1.0)
    assert fast["measurements"]["latency_p99"]["value"] is None
    assert fast["measurements"]["latency_p99"]["note"] == "n too small: 200 of 662"
    assert fast["measurements"]["accuracy"]["value"] == 1.0
    assert fast["measurements"]["accuracy"]["low"] < 1.0
    ratio = fast["comparisons"]["latency_p50 ratio"]
    assert (ratio["value"], ratio["low"], ratio["high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert fast["control"]["latency_p50"]["value"] == pytest.approx(1.0)
    assert rows["slow"]["verdict"] == "not_judged"
    (run,) = written(pytester)["weighbridge"]
    assert (run["workload"], run["exit_code"], run["run"]) == ("toy", 0, fast["run"])
    assert len(written_runs) == 1


def test_generators_are_rows_of_whole_requests(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """A request of 4 tokens of 2 ms is a sample of 8 ms; the time a token stands in extra_info; no classifier has a row."""
    workload = {"name": "toy", "task": "text-generation", "model": "base.fake.json"}
    write_project(workload=workload, measure={"max_new_tokens": 4, "prompt_lengths": [16]})
    result = inner_pytest(*HARNESSES, "--benchmark-json=out.json", "-rs")
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(["*test_classifiers.py*no config of a classifier is given*"])
    row = next(row for row in written(pytester)["benchmarks"] if row["params"]["variant"] == "base")
    assert row["name"] == "test_generator[toy-batch1-prompt16-new4-base]"
    assert row["stats"]["data"] == pytest.approx([0.008] * 200)
    assert row["extra_info"]["measurements"]["tpot"]["value"] == pytest.approx(2.0)
    assert len(written_runs) == 1


def test_only_the_selected_rows_are_shown(inner_pytest: Inner, write_project: Write, written_runs: Runs) -> None:
    """-k takes words of workload, shape and variant; where it leaves nothing, nothing is run."""
    write_project(measure=TWO_SHAPES)
    result = inner_pytest(*HARNESSES, "-k", "batch8 and (fast or base)")
    result.assert_outcomes(passed=2, deselected=5)
    inner_pytest(*HARNESSES, "-k", "faster").assert_outcomes(deselected=7)
    assert len(written_runs) == 1


def test_skipped_rows_run_nothing_and_only_rows_run_all(
    inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """--benchmark-skip skips every row without a run; --benchmark-only shows them, and wins over it as pytest-benchmark says."""
    write_project()
    inner_pytest(*HARNESSES, "--benchmark-skip").assert_outcomes(skipped=4)
    assert not written_runs
    inner_pytest(*HARNESSES, "--benchmark-only").assert_outcomes(passed=3, skipped=1)
    inner_pytest(*HARNESSES, "--benchmark-only", "--benchmark-skip").assert_outcomes(passed=3, skipped=1)


@pytest.mark.parametrize(("argument", "words"), [("--benchmark-disable", "--benchmark-disable"), ("", "without -n")])
def test_where_nothing_can_be_measured_rows_run_and_gates_are_red(
    argument: str,
    words: str,
    inner_pytest: Inner,
    write_project: Write,
    written_runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Disabled, or in a worker of pytest-xdist, a fast look runs: rows without a rule are green, the one with a kept rule is red."""
    if not argument:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    write_project(gates={"rules": [{"metric": "latency_p50", "max": 0.6, "variants": ["fast"]}]})
    result = inner_pytest(*HARNESSES, *filter(None, [argument]))
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    assert "fast: latency_p50 was not evaluated: " in result.stdout.str()
    assert words in result.stdout.str()
    assert [options.quick for _, options in written_runs] == [True]


@pytest.mark.usefixtures("written_runs")
def test_saved_rows_are_compared(inner_pytest: Inner, write_project: Write) -> None:
    """Saved with --benchmark-save or -autosave, an equal run passes --benchmark-compare-fail, one of twice the mean does not."""
    write_project()
    inner_pytest(*HARNESSES, "--benchmark-save=first").assert_outcomes(passed=3, skipped=1)
    inner_pytest(*HARNESSES, "--benchmark-autosave").assert_outcomes(passed=3, skipped=1)
    compare = ("--benchmark-compare=0001", "--benchmark-compare-fail=mean:5%")
    result = inner_pytest(*HARNESSES, *compare)
    result.stdout.fnmatch_lines(["*test_classifier*toy-batch1-fast* (0001_first)*", "*test_classifier*fast* (NOW)*"])
    assert result.ret == 0
    write_project(models={"fast": {"latency_ms": 2.0}})
    result = inner_pytest(*HARNESSES, *compare)
    assert result.ret != 0
    assert "Performance has regressed" in result.stdout.str() + result.stderr.str()


@pytest.mark.usefixtures("written_runs")
def test_rows_that_have_nothing_to_replay(pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write) -> None:
    """A failed variant's row is red and an unavailable one's skipped, each with its reason, and neither is in the table or the file."""
    write_project(
        models={"broken": {"fail_at_open": "weights of another model"}},
        variants=[{"name": "rt", "backend": "tensorrt"}],
    )
    result = inner_pytest(*HARNESSES, "--benchmark-json=out.json", "-rs")
    result.assert_outcomes(passed=3, failed=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["broken is failed: weights of another model", "SKIPPED*rt is unavailable: tensorrt is not installed"]
    )
    assert "Traceback" not in result.stdout.str()
    assert {row["params"]["variant"] for row in written(pytester)["benchmarks"]} == {"base", "fast", "slow"}


@pytest.mark.usefixtures("written_runs")
def test_an_unavailable_variant_that_a_rule_names_is_red(inner_pytest: Inner, write_project: Write) -> None:
    """A rule that names it is not evaluated, which is never a skip."""
    rule = {"metric": "latency_p50", "max": 0.6, "variants": ["rt"]}
    write_project(variants=[{"name": "rt", "backend": "tensorrt"}], gates={"rules": [rule]})
    result = inner_pytest(*HARNESSES)
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["rt is unavailable: tensorrt is not installed", "rt: latency_p50 was not evaluated: *"]
    )


@pytest.mark.usefixtures("written_runs")
def test_a_broken_rule_is_a_red_row_that_is_kept(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write
) -> None:
    """A speed rule reddens the row of its shape, an accuracy rule every row of the variant; all stay in the file."""
    rules = [
        {"metric": "latency_p50", "max": 1.03, "conditions": {"batch_size": 8}},
        {"metric": "accuracy", "compare": "difference", "min": -0.1, "variants": ["fast"]},
    ]
    write_project(models={"fast": {"latency_ms": 1.0, "error_rate": 0.4}}, measure=TWO_SHAPES, gates={"rules": rules})
    result = inner_pytest(*HARNESSES, "--benchmark-json=out.json", "-rf")
    result.assert_outcomes(passed=3, failed=3, skipped=1)
    result.stdout.fnmatch_lines(["slow: latency_p50 1.1x*: fail (4 replicates, batch_size 8)"])
    failed = [line.split("[")[1].split("]")[0] for line in result.stdout.lines if line.startswith("FAILED")]
    assert failed == ["toy-batch1-fast", "toy-batch8-fast", "toy-batch8-slow"]
    verdicts = {row["param"]: row["extra_info"]["verdict"] for row in written(pytester)["benchmarks"]}
    assert len(verdicts) == 6
    assert (verdicts["toy-batch1-slow"], verdicts["toy-batch8-slow"]) == ("not_judged", "fail")


@pytest.mark.usefixtures("written_runs")
def test_the_harness_leaves_a_projects_own_bench_alone(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write
) -> None:
    """In one session with pytest's default import mode, `import bench` is the project's own before, during and after the rows."""
    write_project()
    own = "import bench\n\ndef test_own():\n    import bench.inner\n    assert bench.OWN and bench.inner.OWN"
    pytester.makepyfile(**{"bench/__init__": "OWN = True", "bench/inner": "OWN = True", "test_a": own, "test_z": own})
    inner_pytest("test_a.py", *HARNESSES, "test_z.py").assert_outcomes(passed=5, skipped=1)


def test_without_a_config_built_in_workloads_are_rows(pytester: pytest.Pytester, inner_pytest: Inner) -> None:
    """`pytest bench` of a checkout, whatever the import mode, lists a classifier and a generator with their default variants."""
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib\n")
    folder = Path(weighbridge.bench.__file__).parent
    result = inner_pytest("-c", "tox.ini", folder, "--collect-only", "-q")
    rows = [line.split("[")[1].rstrip("]") for line in result.stdout.lines if "[" in line]
    shapes = {"digits-cnn": ("batch1", "batch8"), "gpt2-text": ("batch1-prompt32-new16",)}
    assert rows == [
        f"{name}-{shape}-{each.get('name') or '{backend}-{precision}'.format(**each)}"
        for name in shapes
        for shape in shapes[name]
        for each in builtin(name).variants
    ]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["missing.toml"], "missing.toml cannot be read"),
        (["weighbridge.toml", "copy.toml"], "the configs' workloads are named toy, toy; give each a name of its own"),
    ],
)
def test_a_config_that_cannot_be_meant_is_a_collection_error(
    files: list[str], sentence: str, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """A missing file, and two workloads of one name, are said in a sentence, and nothing is run."""
    write_project()
    write_project(file="copy.toml")
    result = inner_pytest("--pyargs", "weighbridge.bench", *(f"--weighbridge-config={file}" for file in files))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert sentence in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    assert not written_runs


@pytest.mark.usefixtures("written_runs")
def test_two_configs_are_two_groups(pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write) -> None:
    """Each config is a run and a group of its own."""
    write_project()
    other = {"name": "other", "task": "tabular-classification", "model": "base.fake.json"}
    write_project(file="other.toml", workload=other)
    inner_pytest(*HARNESSES, "--weighbridge-config=other.toml", "--benchmark-json=out.json").assert_outcomes(
        passed=6, skipped=1
    )
    assert {row["group"] for row in written(pytester)["benchmarks"]} == {"toy batch1", "other batch1"}
    assert [run["workload"] for run in written(pytester)["weighbridge"]] == ["toy", "other"]


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=50))
def test_the_clock_gives_every_sample_to_the_last_bit(samples: list[float]) -> None:
    """Pairs of readings, as a benchmark takes them around each call, differ by exactly the samples, in order."""
    clock = clock_of(samples)
    differences = []
    for _ in samples:
        start = clock()
        differences.append(clock() - start)
    assert differences == samples


@dataclass
class FakeBenchmark:
    """Stands for the fixture, and measured something of its own."""

    data: list[float]
    extra_info: dict[str, Any] = field(default_factory=dict)

    @property
    def stats(self) -> Any:
        return SimpleNamespace(stats=SimpleNamespace(data=self.data))

    def pedantic(self, target: Callable[[], None], rounds: int) -> None:
        del rounds
        target()


def test_a_row_whose_clock_was_not_used_is_red(request: pytest.FixtureRequest) -> None:
    """Times other than the samples, as pytest-benchmark's own clock would give, fail the row."""
    with pytest.raises(pytest.fail.Exception, match="did not record the times that were weighed"):
        record_row(Replay(samples=(0.5, 0.25)), FakeBenchmark([0.5, 0.26]), request.node, "")


def row_at(batch_size: int) -> Row:
    config = parse_config(
        {
            "workload": {"name": "toy", "task": "tabular-classification", "model": "m.fake.json"},
            "variants": [{"name": "base", "backend": "fake", "baseline": True}, {"name": "new", "backend": "fake"}],
            "measure": TWO_SHAPES,
        },
        "test",
    )
    return Row(Asked(config), {"batch_size": batch_size, "threads": 1}, "new")


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        ({"batch_size": 1, "threads": 1}, [1]),
        ({"batch_size": 8, "threads": 1}, [8]),
        ({}, [1, 8]),
        ({"slice": "language=de"}, [1, 8]),
        ({"batch_size": "best", "threads": 1}, [1, 8]),
        ({"batch_size": 99}, [1, 8]),
    ],
)
def test_every_verdict_is_of_some_row(conditions: dict[str, Any], rows: list[int]) -> None:
    """A verdict is of the row at its shape; one of all shapes, or of a shape that is no row's, is of every row of its variant."""
    gate = Gate("latency_p50", "ratio", {"max": 1.0}, "new", conditions, "fail", "no")
    other = Gate("latency_p50", "ratio", {"max": 1.0}, "old", conditions, "fail", "no")
    assert [size for size in (1, 8) if gates_of(row_at(size), [gate, other]) == (gate,)] == rows


def test_a_shape_that_the_model_does_not_take_is_red(tmp_path: Path) -> None:
    """A row at batch 1 of a model of fixed batch 4 fails, and says what was measured."""
    recorder = Recorder(1)
    recorder.add([[1.0]], ["timed"], variant="new", shape=key_of({"batch_size": 4}), round_=1, visit=1)
    recorder.write(tmp_path)
    rows = (VariantRow("base", "fake", "fp32", "ok", baseline=True), VariantRow("new", "fake", "fp32", "ok"))
    done = Done(Results(environment={}, config={}, variants=rows, folder=tmp_path))
    assert replay_of(done, row_at(1)).failure == (
        "new was not measured at batch1, but at batch4: the model's own sizes are fixed; give these in [measure]"
    )
    assert np.isfinite(done.pooled.timed["new", key_of({"batch_size": 4})]).all()
