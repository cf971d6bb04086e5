"""A run against a saved one: what compares across days, and what stays open with its reason."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.parquet
import pytest
import scipy.stats
from weighbridge.bench import Options, run
from weighbridge.bench.across import _answers, _evidence, _sizes, judged_against
from weighbridge.bench.config import GatesConfig, parse_config
from weighbridge.bench.derive import derive
from weighbridge.bench.evidence import Exact, Incomparable, ReplicateRatios, TwoRuns
from weighbridge.bench.generated import Generations
from weighbridge.bench.looks import per_look_error
from weighbridge.bench.predictions import WindowScores
from weighbridge.bench.results import Results, read_results, write_results
from weighbridge.bench.stats import welch_bounds
from weighbridge.bench.sustained import RateTried, SustainedRate
from weighbridge.optimize.errors import InputError
from weighbridge.reports import render
from weighbridge.reports.findings import Findings
from weighbridge.reports.verdicts import rules

SPEED = {"metric": "latency_p50", "compare": "ratio", "max": 1.03}
ACCURACY = {"metric": "accuracy", "compare": "difference", "min": -0.02}
SIZE = {"metric": "artifact_bytes", "compare": "ratio", "max": 1.0}
MEMORY = {"metric": "peak_memory", "compare": "ratio", "max": 2.0}


def weigh(folder: Path, base: dict[str, Any], a: dict[str, Any]) -> Results:
    """Weigh a fake candidate `a` against a fake baseline."""
    folder.mkdir()
    (folder / "base.fake.json").write_text(json.dumps(base), encoding="utf-8")
    (folder / "a.fake.json").write_text(json.dumps(a), encoding="utf-8")
    variants = [
        {"name": "base", "backend": "fake", "baseline": True},
        {"name": "a", "backend": "fake", "artifact": "a.fake.json"},
    ]
    workload = {"name": "w", "task": "tabular-classification", "model": "base.fake.json"}
    config = parse_config({"workload": workload, "variants": variants}, "test")
    return run(config, Options(out=folder / "run", base=folder, quick=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Three runs: then; now, with a candidate that is slower and wrong more often; and one with another baseline."""
    folder = tmp_path_factory.mktemp("across")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_CACHE", str(folder / "cache"))
        base = {"latency_ms": 2.0}
        return {
            "then": weigh(folder / "then", base, {"latency_ms": 1.0, "seed": 1}),
            "now": weigh(folder / "now", base, {"latency_ms": 1.1, "seed": 1, "error_rate": 0.2}),
            "other": weigh(folder / "other", {"latency_ms": 3.0}, {"latency_ms": 1.0}),
        }


@pytest.fixture
def saved(runs: dict[str, Results], tmp_path: Path) -> Path:
    """A copy of the first run, which a test may change."""
    return Path(shutil.copytree(runs["then"].folder, tmp_path / "saved"))


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def gates(*rules: dict[str, Any]) -> GatesConfig:
    return GatesConfig.model_validate({"rules": rules})


def verdicts(results: Results) -> dict[str, str]:
    return {gate.metric: gate.verdict for gate in results.gates}


def test_answers_sizes_and_times_are_judged_against_the_saved_run(runs: dict[str, Results], saved: Path) -> None:
    """A tenth slower than last time fails, though faster than the in-run baseline; a fifth wrong fails; a like size passes."""
    now = runs["now"]
    found = judged_against(now, saved, gates(SPEED, ACCURACY, {**SIZE, "max": 2.0}))
    assert verdicts(found) == {"latency_p50": "fail", "accuracy": "fail", "artifact_bytes": "pass"}
    assert found.exit_code == 1
    speed = next(gate for gate in found.gates if gate.metric == "latency_p50")
    assert "1.1x [1.1x, 1.1x] of saved" in speed.sentence
    assert any("Judged against saved of" in notice for notice in found.notices)
    assert found.comparisons == now.comparisons


def test_the_report_names_what_was_judged_against(runs: dict[str, Results], saved: Path, tmp_path: Path) -> None:
    """Rules and verdict on the page and in the summary speak of the saved run; judged by its own rules again, of the baseline."""
    folder = Path(shutil.copytree(runs["now"].folder, tmp_path / "now"))
    own = derive(folder, gates=gates(SPEED))
    write_results(judged_against(own, saved, gates(SPEED)), folder)
    against = read_results(folder)
    assert against.reference == "saved"
    assert [rule.text for rule in rules(Findings(against))] == ["p50 latency at most 1.03x that of saved"]
    summary = render(folder, tmp_path / "against.md", "md").read_text(encoding="utf-8")
    assert "breaks: p50 latency at most 1.03x that of saved." in summary
    write_results(own, folder)
    assert [rule.text for rule in rules(Findings(read_results(folder)))] == ["p50 latency at most 1.03x that of base"]


def test_times_and_memory_of_two_devices_stay_open(runs: dict[str, Results], saved: Path) -> None:
    """Against a run on a GPU neither times nor memory are judged, with the reason; answers and sizes are."""
    changed(saved / "config.toml", 'device = "cpu"', 'device = "cuda"')
    found = judged_against(runs["now"], saved, gates(SPEED, MEMORY, ACCURACY, {**SIZE, "max": 2.0}))
    assert verdicts(found) == {
        "latency_p50": "inconclusive", "peak_memory": "inconclusive", "accuracy": "fail", "artifact_bytes": "pass",
    }  # fmt: skip
    assert found.gates[0].sentence == (
        "a: latency_p50 cannot be compared: this run measured on cpu and the saved one on cuda, whose times and memory do not "
        "compare; weigh both on one device: inconclusive"
    )


def test_a_run_that_tells_no_device_counts_as_one_on_the_processor(runs: dict[str, Results], saved: Path) -> None:
    """A saved run whose files, as older ones, name neither a device nor GPUs is compared as ever."""
    changed(saved / "config.toml", 'device = "cpu"\n', "")
    told = json.loads((saved / "environment.json").read_text(encoding="utf-8"))
    older = {key: value for key, value in told.items() if key not in ("gpu", "gpu_driver")}
    (saved / "environment.json").write_text(json.dumps(older), encoding="utf-8")
    assert verdicts(judged_against(runs["now"], saved, gates(SPEED))) == {"latency_p50": "fail"}


def test_times_through_baselines_that_differ_stay_open(runs: dict[str, Results], saved: Path) -> None:
    """Where the in-run baseline is another artifact than last time, a time ratio is inconclusive, whatever the numbers."""
    found = judged_against(runs["other"], saved, gates(SPEED))
    assert verdicts(found) == {"latency_p50": "inconclusive"}
    assert "the in-run baselines base and base are not the same artifact" in found.gates[0].sentence
    assert found.exit_code == 3


def test_a_difference_of_times_of_two_days_stays_open(runs: dict[str, Results], saved: Path) -> None:
    """Milliseconds of two days are not subtracted; a value of today is judged as ever."""
    difference = {"metric": "latency_p50", "compare": "difference", "max": 0.1}
    value = {"metric": "latency_p50", "compare": "value", "max": 1.5}
    found = judged_against(runs["now"], saved, gates(difference, value))
    assert [gate.verdict for gate in found.gates] == ["inconclusive", "pass"]
    assert "a difference of times of two days says nothing" in found.gates[0].sentence


def test_a_variant_that_the_saved_run_lacks_stays_open(runs: dict[str, Results], saved: Path) -> None:
    """A candidate without a counterpart is inconclusive, and the sentence says that there is none."""
    changed(saved / "config.toml", 'name = "a"', 'name = "old-a"')
    shutil.rmtree(saved / "variants" / "a")
    for path in saved.rglob("*.parquet"):
        table = pyarrow.parquet.read_table(path)
        pyarrow.parquet.write_table(table.filter(pyarrow.compute.not_equal(table["variant"], "a")), path)
    found = judged_against(runs["now"], saved, gates(ACCURACY))
    assert found.gates[0].verdict == "inconclusive"
    assert "the saved run has no variant a" in found.gates[0].sentence


def test_other_examples_leave_accuracy_open(runs: dict[str, Results], saved: Path) -> None:
    """Answers are paired on the same examples or not at all."""
    changed(saved / "journal.jsonl", '"data_sha256": "', '"data_sha256": "another')
    found = judged_against(runs["now"], saved, gates(ACCURACY))
    assert "the two runs answered different examples" in found.gates[0].sentence
    assert found.gates[0].verdict == "inconclusive"


def test_unlike_machines_are_refused_and_marked_when_asked_for(runs: dict[str, Results], saved: Path) -> None:
    """A run of another processor is not compared; with the flag it is, and every sentence and a notice say so."""
    changed(saved / "environment.json", '"machine": "', '"machine": "another ')
    with pytest.raises(InputError, match="machines that are not alike .*another .*--unlike-machines"):
        judged_against(runs["now"], saved, gates(SPEED))
    found = judged_against(runs["now"], saved, gates(SPEED), unlike_machines=True)
    assert "(on an unlike machine)" in found.gates[0].sentence
    assert any("The machines are not alike" in notice for notice in found.notices)


def test_a_classifier_is_not_compared_with_a_generator(runs: dict[str, Results], saved: Path) -> None:
    """Runs of unlike kinds of model are refused."""
    changed(saved / "journal.jsonl", '"kind": "classifier"', '"kind": "decoder"')
    with pytest.raises(InputError, match="weigh a classifier and a decoder: they cannot be compared"):
        judged_against(runs["now"], saved, gates(SIZE))


def test_welchs_bounds_are_scipys() -> None:
    """The bounds of a difference of means with unequal spreads equal scipy's Welch interval."""
    random = np.random.default_rng(3)
    first, second = random.normal(1.0, 0.1, 8), random.normal(0.9, 0.3, 5)
    expected = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.98)
    assert welch_bounds(first, second, 0.01, 0.01) == pytest.approx((expected.low, expected.high))
    assert welch_bounds(np.ones(4), np.zeros(4), 0.01, 0.01) == (1.0, 1.0)


def test_two_runs_are_compared_through_both_baselines() -> None:
    """Twice as slow a machine halves nothing: 1.2 against 1.0 of the own baseline is 1.2, with Welch's interval of the logs."""
    random = np.random.default_rng(5)
    noise = np.exp(0.01 * random.standard_normal((2, 6)))
    now, then = (
        ReplicateRatios("a", "latency_p50", {}, tuple(machine * ratio * each), (machine,) * 6)
        for machine, ratio, each in zip((4.0, 2.0), (1.2, 1.0), noise, strict=True)
    )
    found = TwoRuns("a", "latency_p50", {}, now, then, through_baselines=True).interval("ratio", 0.01, 0.005)
    assert found is not None
    low, high = welch_bounds(np.log(1.2 * noise[0]), np.log(noise[1]), per_look_error(0.01), per_look_error(0.005))
    assert (found.low, found.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert found.value == pytest.approx(1.2, rel=0.02)


def test_a_generators_texts_compare_across_runs_and_its_next_tokens_do_not() -> None:
    """Likelihoods and answers to the same prompts pair up; a divergence from one's own baseline says nothing of another run."""
    tokens = (np.array([1, 2]), np.array([1, 3]))
    answers = Generations(("p", "q"), (), tokens, (np.ones(2, np.float32),) * 2, ("a", "b"), 2)
    scores = WindowScores(np.array([3.0, 4.0]), np.full(2, 2.0), np.full(2, 8.0), (np.full(1, 0.1), np.full(1, 0.2)))
    facts = SimpleNamespace(
        event=lambda _: {"data_sha256": "d"},
        classes={},
        windows={"a": scores},
        generations={"a": answers},
        class_names=[],
    )
    side = SimpleNamespace(facts=facts)
    found = {piece.metric: piece for piece in _answers(side, side, {"a"}, ())}  # type: ignore[arg-type]
    assert {"perplexity", "bits_per_byte", "token_agreement", "first_divergence", "repetition"} <= set(found)
    same = found["token_agreement"].interval("value", 0.1, 0.1)
    assert same is not None
    assert same.value == 1
    undecided = found["kl_divergence"]
    assert isinstance(undecided, Incomparable)
    assert undecided.why == "a run keeps how far next tokens are from its own baseline's only"


def test_sizes_and_caches_compare_across_days_and_builds_do_not() -> None:
    """Bytes and a cache are now over then; a build time has a value only, and its ratio stays open with the reason."""

    def side(size: int, cache: float) -> Any:
        manifest = SimpleNamespace(bytes=size, parameters=size // 4, build_seconds=size / 100, recipe={})
        piece = Exact("a", "cache_bytes", {"batch_size": 1}, 64.0, cache)
        return SimpleNamespace(
            facts=SimpleNamespace(manifests={"a": manifest}), pieces={("a", "cache_bytes", "1"): piece}
        )

    found = list(_sizes(side(100, 32.0), side(400, 64.0), {"a"}))
    ratios = {piece.metric: piece.interval("ratio", 0.01, 0.01) for piece in found if "ratio" in piece.kinds}
    assert {name: each and each.value for name, each in ratios.items()} == {
        "artifact_bytes": 0.25, "parameters": 0.25, "build_time": None, "cache_bytes": 0.5,
    }  # fmt: skip
    values = {piece.metric: piece.interval("value", 0.01, 0.01) for piece in found if "value" in piece.kinds}
    assert values["build_time"] is not None
    assert values["build_time"].value == 1.0
    (why,) = (piece.why for piece in found if isinstance(piece, Incomparable))
    assert why == "a build of another day was timed once, under that day's load; compare by value"


def test_sustained_rates_of_two_days_do_not_compare() -> None:
    """The rate that a candidate sustains today has a value; how it stands to the saved run's stays open with the reason."""
    tried = (RateTried(20.0, (1.0,) * 4), RateTried(50.0, (9.0,) * 4))
    piece = SustainedRate("a", "sustained_rate", {}, tried, tried, 5.0)
    config = SimpleNamespace(variants=[SimpleNamespace(name="a")])
    nothing: dict[str, Any] = {"classes": {}, "windows": {}, "generations": {}, "class_names": [], "manifests": {}}
    facts = SimpleNamespace(event=lambda _: {}, config=config, **nothing)
    side: Any = SimpleNamespace(facts=facts, pieces={("a", "sustained_rate", "{}"): piece})
    value, undecided = _evidence(side, side, ())
    assert value.kinds == ("value",)
    assert isinstance(undecided, Incomparable)
    assert undecided.kinds == ("ratio", "difference")
    assert undecided.why == "the rates that two days sustain say nothing of each other; compare by value"
