"""Whole runs of fake models: what is written, what is derived, what a crash costs."""

import contextlib
import datetime
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench import Options, run
from weighbridge.bench.child import Progress
from weighbridge.bench.config import load_config, parse_config, to_toml
from weighbridge.bench.derive import derive
from weighbridge.bench.journal import read_journal
from weighbridge.bench.reporter import Silent
from weighbridge.bench.results import Results, read_results
from weighbridge.bench.rules_file import read_rules
from weighbridge.bench.running import asked_shapes, complete, dated_folder, resume, shapes_of, weighed_shapes
from weighbridge.bench.schema import validate
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import ConfigError, InputError, NotAvailableYetError
from weighbridge.optimize.source import Source

Write = Callable[..., Path]
NO_REGRESSION = {"preset": "no-regression"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test builds into a cache of its own."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path_factory.mktemp("cache")))


def config_of(folder: Path, write: Write, candidates: dict[str, dict[str, Any]], **parts: Any) -> Any:
    write(folder / "base.fake.json", latency_ms=2.0)
    variants: list[dict[str, Any]] = [{"name": "base", "backend": "fake", "baseline": True}]
    for name, behaviour in candidates.items():
        write(folder / f"{name}.fake.json", **behaviour)
        variants.append({"name": name, "backend": "fake", "artifact": f"{name}.fake.json"})
    workload = {"name": "w", "task": "tabular-classification", "model": "base.fake.json"}
    return parse_config({"workload": workload, "variants": variants, "gates": NO_REGRESSION, **parts}, "test")


def run_in(folder: Path, config: Any, **options: Any) -> Results:
    return run(config, Options(out=folder / "run", base=folder, **options))


def by_variant(results: Results, metric: str) -> dict[str, str]:
    return {gate.variant: gate.verdict for gate in results.gates if gate.metric == metric}


class Clearing(Silent):
    """Clears the cache as each stage begins, or interrupts the run there; `removed` holds how many artifacts went, by stage."""

    def __init__(self, interrupted_at: str = "") -> None:
        self._interrupted_at = interrupted_at
        self.removed: dict[str, int] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        if name == self._interrupted_at:
            raise KeyboardInterrupt
        self.removed[name] = ArtifactCache().clear()
        with super().stage(name) as progress:
            yield progress


def test_the_cache_may_be_cleared_at_any_stage(tmp_path: Path, write_behaviour: Write) -> None:
    """What a run has built stays while it builds the next one, checks and weighs, gone on with or not; then it can be cleared."""
    config = config_of(tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0}})
    options = Options(out=tmp_path / "run", base=tmp_path, quick=True)
    with pytest.raises(KeyboardInterrupt):
        run(config, options, Clearing(interrupted_at="checking 2 variants"))
    reporter = Clearing()
    assert [row.status for row in resume(tmp_path / "run", reporter=reporter).variants] == ["ok", "ok"]
    assert reporter.removed == {
        "preparing w": 2,
        "building base": 0,
        "building fast": 0,
        "checking 2 variants": 0,
        "weighing": 0,
    }
    assert ArtifactCache().clear() == 2
    reporter = Clearing()
    run(config, Options(out=tmp_path / "other", base=tmp_path, quick=True), reporter)
    assert set(reporter.removed.values()) == {0}


def test_known_truth_in_known_truth_out(tmp_path: Path, write_behaviour: Write) -> None:
    """Half the latency passes at exactly 0.5, a tenth more fails at exactly 1.1, and a fifth wrong answers fail."""
    candidates = {
        "fast": {"latency_ms": 1.0},
        "slow": {"latency_ms": 2.2},
        "wrong": {"latency_ms": 2.0, "error_rate": 0.2, "seed": 5},
    }
    results = run_in(tmp_path, config_of(tmp_path, write_behaviour, candidates))
    ratios = {each.variant: each.value for each in results.comparisons if each.metric == "latency_p50"}
    assert ratios == pytest.approx({"fast": 0.5, "slow": 1.1, "wrong": 1.0})
    assert by_variant(results, "latency_p50") == {"fast": "pass", "slow": "fail", "wrong": "pass"}
    assert by_variant(results, "accuracy")["wrong"] == "fail"
    assert results.exit_code == 1
    assert {each.value for each in results.control if each.metric == "latency_p50"} == {1.0}


def test_a_run_folder_holds_what_the_contract_names(tmp_path: Path, write_behaviour: Write) -> None:
    """Raw files, manifests and results are there; the resolved config reads back; results read back equal."""
    config = config_of(tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0}})
    results = run_in(tmp_path, config)
    folder = tmp_path / "run"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {"config.toml", "environment.json", "journal.jsonl", "predictions.parquet", "results.json"}
    assert (
        wanted | {"variants/base/manifest.json", "variants/fast/manifest.json", "samples/replicate-001.parquet"}
        <= names
    )
    assert load_config(folder / "config.toml") == config
    validate(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    assert json.dumps(read_results(folder).to_dict()) == json.dumps(results.to_dict())
    assert not [name for name in names if name.endswith(".part")]


def test_accuracy_and_flips_are_counted_by_hand(tmp_path: Path, write_behaviour: Write) -> None:
    """The accuracy of a fake model that errs on a known set of rows is that count over 300, each of them a listed flip."""
    config = config_of(tmp_path, write_behaviour, {"wrong": {"error_rate": 0.1, "seed": 1}})
    results = run_in(tmp_path, config)
    accuracy = {each.variant: each for each in results.measurements if each.metric == "accuracy"}
    agreement = next(each for each in results.measurements if each.metric == "agreement")
    lost = 300 - round(300 * (accuracy["wrong"].value or 0))
    assert (accuracy["base"].value, accuracy["base"].n) == (1.0, 300)
    assert 10 <= lost <= 60
    assert agreement.value == accuracy["wrong"].value
    flips = [flip for flip in results.flips if flip.variant == "wrong"]
    assert len(flips) == min(lost, 50)
    assert all(flip.baseline_prediction == flip.label != flip.prediction for flip in flips)


def test_rules_are_judged_within_the_values_of_a_column(tmp_path: Path, write_behaviour: Write) -> None:
    """A rule with a slice has a verdict a value; judged again by a column that was not kept it is not evaluated."""
    rule = {"metric": "accuracy", "compare": "difference", "min": -0.2, "slice": "third"}
    config = config_of(tmp_path, write_behaviour, {"wrong": {"error_rate": 0.1, "seed": 1}}, gates={"rules": [rule]})
    results = run_in(tmp_path, config, quick=True)
    names = [f"third={value}" for value in ("first", "second", "third")]
    assert [gate.conditions for gate in results.gates] == [{"slice": name} for name in names]
    measured = [each for each in results.measurements if each.metric == "accuracy" and each.variant == "wrong"]
    assert [each.conditions.get("slice") for each in measured] == [None, *names]
    assert sum(each.n * (each.value or 0) for each in measured[1:]) == pytest.approx(300 * (measured[0].value or 0))
    validate(json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8")))
    rows = results.class_recalls
    assert [(row.class_name, row.n) for row in rows] == [(f"class-{number}", 100) for number in range(3)]
    assert sum(row.candidate for row in rows) / 3 == pytest.approx(measured[0].value)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nmetric = "f1_macro"\nmin = 0.5\nslice = "parity"\n', encoding="utf-8")
    (gate,) = derive(tmp_path / "run", gates=read_rules(rules)).gates
    assert gate.verdict == "not_evaluated"
    assert "the run kept the columns ['third']" in gate.sentence


def test_examples_needed_are_told_before_anything_is_built(tmp_path: Path, write_behaviour: Write) -> None:
    """The first sentences of a run say what each quality rule needs and what the data has."""
    told: list[str] = []

    class Telling(Silent):
        def tell(self, sentence: str) -> None:
            told.append(sentence)

    config = config_of(tmp_path, write_behaviour, {"fast": {}})
    run(config, Options(out=tmp_path / "run", base=tmp_path, quick=True), Telling())
    assert told[0] == (
        "Rule accuracy difference at least -0.01: about 2,008 examples are needed if 2% of the answers change for better or "
        "worse; the data has 300: it may stay undecided."
    )


def test_percentiles_below_their_least_n_are_not_numbers(tmp_path: Path, write_behaviour: Write) -> None:
    """p50 is a number; p99 is one exactly where the run took 662 timed calls."""
    results = run_in(tmp_path, config_of(tmp_path, write_behaviour, {"fast": {}}), quick=True)
    for each in results.measurements:
        if each.metric == "latency_p99":
            assert (each.value is None) == (each.n < 662)
            assert each.value is not None or f"n too small: {each.n} of 662" in each.note


@pytest.mark.parametrize("victim", ["base", "fast"])
def test_a_killed_worker_is_exit_4_with_its_reason(victim: str, tmp_path: Path, write_behaviour: Write) -> None:
    """A variant whose process is killed while it is weighed is failed with the signal; the others' values are whole."""
    config = config_of(tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0}, "other": {"latency_ms": 1.5}})
    killing = {"latency_ms": 1.0, "fault": "kill", "fault_at_call": 150}
    write_behaviour(tmp_path / f"{victim}.fake.json", **killing)
    results = run_in(tmp_path, config)
    rows = {row.name: row for row in results.variants}
    assert results.exit_code == 4
    assert rows[victim].status == "failed"
    assert "killed by signal 9 SIGKILL" in rows[victim].reason
    assert rows["other"].status == "ok"
    assert (
        next(each.value for each in results.measurements if each.variant == "other" and each.metric == "latency_p50")
        == 1.5
    )
    if victim == "fast":
        assert by_variant(results, "latency_p50")["other"] == "pass"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"outputs": "nan"}, "NaN|not finite"),
        ({"outputs": "constant"}, "constant|the same"),
        ({"outputs": "wrong-shape"}, "shape|rows of scores"),
        ({"fail_at_open": "weights of another model"}, "weights of another model"),
    ],
)
def test_a_broken_variant_is_failed_not_fast(
    behaviour: dict[str, Any], reason: str, tmp_path: Path, write_behaviour: Write
) -> None:
    """NaN, constant and wrong-shaped outputs and a refusal to open end as `failed` with the reason and exit 4."""
    results = run_in(tmp_path, config_of(tmp_path, write_behaviour, {"bad": behaviour}), quick=True)
    row = next(row for row in results.variants if row.name == "bad")
    assert row.status == "failed"
    assert re.search(reason, row.reason), row.reason
    assert results.exit_code == 4


def test_an_unavailable_variant_keeps_its_reason(tmp_path: Path, write_behaviour: Write) -> None:
    """A backend that this machine lacks is a row with the reason and the remedy; unnamed, it does not fail the run."""
    config = config_of(tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0}}, gates={"preset": "none"})
    data = config.model_dump(mode="json", exclude_none=True)
    data["variants"].append({"backend": "tensorrt", "precision": "int8"})
    results = run_in(tmp_path, parse_config(data, "test"), quick=True)
    row = next(row for row in results.variants if row.backend == "tensorrt")
    assert row.status == "unavailable"
    assert "TensorRT" in row.reason or "tensorrt" in row.reason
    assert results.exit_code == 0


def test_judging_again_uses_the_same_samples(tmp_path: Path, write_behaviour: Write) -> None:
    """Other rules on a finished run give other verdicts from the same intervals; the samples stay as they are."""
    run_in(tmp_path, config_of(tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0}}), quick=True)
    folder = tmp_path / "run"
    before = {path: path.read_bytes() for path in (folder / "samples").iterdir()}
    rules = tmp_path / "rules.toml"
    rules.write_text('[[gates.rules]]\nmetric = "latency_p50"\ncompare = "ratio"\nmax = 0.4\n', encoding="utf-8")
    again = derive(folder, gates=read_rules(rules))
    assert [gate.verdict for gate in again.gates] == ["fail"]
    assert again.exit_code == 1
    assert {path: path.read_bytes() for path in (folder / "samples").iterdir()} == before


def test_a_run_folder_with_content_is_refused(tmp_path: Path, write_behaviour: Write) -> None:
    """Nothing is overwritten: an existing folder with something in it is an error before anything starts."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        run_in(tmp_path, config_of(tmp_path, write_behaviour, {}))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_bad_input_leaves_no_run_folder(tmp_path: Path, write_behaviour: Write) -> None:
    """A model that is missing is an error, and no folder was made."""
    config = config_of(tmp_path, write_behaviour, {})
    (tmp_path / "base.fake.json").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        run_in(tmp_path, config)
    assert not (tmp_path / "run").exists()


def test_nothing_judged_says_so(tmp_path: Path, write_behaviour: Write) -> None:
    """Without rules and preset the run exits 0 and says that nothing was judged."""
    results = run_in(tmp_path, config_of(tmp_path, write_behaviour, {"fast": {}}, gates={"preset": "none"}), quick=True)
    assert results.exit_code == 0
    assert any("Nothing was judged" in notice for notice in results.notices)


def test_a_damaged_run_folder_is_an_error_of_ours(tmp_path: Path, write_behaviour: Write) -> None:
    """Samples, predictions or journal that are cut short give a sentence, not a traceback."""
    run_in(tmp_path, config_of(tmp_path, write_behaviour, {"fast": {}}, gates={"preset": "none"}), quick=True)
    folder = tmp_path / "run"
    for name in ("samples/replicate-001.parquet", "predictions.parquet", "environment.json", "journal.jsonl"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2].replace(b'"event"', b'"evnt" '))
        if name != "journal.jsonl":
            with pytest.raises(InputError, match="damaged|not a whole run folder"):
                derive(folder)
        (folder / name).write_bytes(whole)
    with pytest.raises(InputError, match="not a run folder"):
        derive(tmp_path / "nowhere")


def test_default_variants_and_names(tmp_path: Path) -> None:
    """A resolved config has every default written down."""
    text = tmp_path / "c.toml"
    text.write_text('[workload]\nname = "d"\nbuiltin = "digits-cnn"\n', encoding="utf-8")
    config = tomllib.loads(to_toml(complete(load_config(text), Options())))
    assert [variant["name"] for variant in config["variants"]][:2] == ["torch-fp32", "torch-bf16"]
    assert config["measure"]["error_rate"] == 0.01


def test_callers_and_rates_are_weighed_and_gated_by_conditions(tmp_path: Path, write_behaviour: Write) -> None:
    """One run at two batch sizes, two callers and a rate: each rule finds its shape, with values by hand."""
    rules = [
        {"metric": "throughput", "min": 1.9, "conditions": {"concurrency": 2, "batch_size": 1}},
        {"metric": "throughput", "min": 1.9, "conditions": {"concurrency": 1, "batch_size": "best"}},
        {"metric": "latency_p95", "max": 0.6, "conditions": {"rate": 1, "batch_size": 1}},
        {"metric": "sustained_rate", "compare": "value", "min": 1, "conditions": {"batch_size": 4}},
    ]
    measure = {
        "batch_sizes": [1, 4],
        "concurrency": [1, 2],
        "rates": [1],
        "latency_limit": {"latency_p95": 3},
        "max_seconds": 2000,
    }
    config = config_of(
        tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0}}, measure=measure, gates={"rules": rules}
    )
    results = run_in(tmp_path, config)
    assert [gate.verdict for gate in results.gates] == ["pass"] * 4, results.gates
    throughput = {
        (each.conditions["batch_size"], each.conditions.get("concurrency")): each.value
        for each in results.measurements
        if each.variant == "fast" and each.metric == "throughput"
    }
    expected = {(1, 1): 1000, (4, 1): 4000, (1, 2): 2000, (4, 2): 8000, ("best", 1): 4000, ("best", 2): 8000}
    assert throughput == {key: pytest.approx(value) for key, value in expected.items()}
    validate(json.loads((results.folder / "results.json").read_text(encoding="utf-8")))


def test_a_rule_from_end_to_end_has_those_calls_timed(tmp_path: Path, write_behaviour: Write) -> None:
    """2 ms to load and 2 ms to answer against 1 ms to answer: 0.75 from end to end, 0.5 of the model alone, at the same shape."""
    rules = [{"metric": "latency_end_to_end_p50", "max": 0.8}, {"metric": "latency_p50", "max": 0.6}]
    config = config_of(tmp_path, write_behaviour, {"fast": {"latency_ms": 1.0, "load_ms": 2.0}}, gates={"rules": rules})
    write_behaviour(tmp_path / "base.fake.json", latency_ms=2.0, load_ms=2.0)
    results = run_in(tmp_path, config, quick=True)
    assert {gate.metric: gate.verdict for gate in results.gates} == {rule["metric"]: "pass" for rule in rules}
    ratios = {each.metric: each for each in results.comparisons if each.kind == "ratio"}
    assert ratios["latency_end_to_end_p50"].value == pytest.approx(0.75)
    assert ratios["latency_p50"].value == pytest.approx(0.5)
    assert ratios["latency_end_to_end_p50"].conditions == ratios["latency_p50"].conditions
    found = {(each.variant, each.metric): each for each in results.measurements}
    assert found["fast", "latency_end_to_end_p50"].value == pytest.approx(3.0)
    assert len([each for each in results.measurements if each.metric == "throughput"]) == 2
    plan = next(event for event in read_journal(results.folder) if event["event"] == "plan")
    assert "batch_size 1, end to end: 5 rounds of 3 settle + 10 timed calls" in plan["sentence"]
    validate(json.loads((results.folder / "results.json").read_text(encoding="utf-8")))


def test_only_a_caller_alone_is_weighed_from_end_to_end(tmp_path: Path, write_behaviour: Write) -> None:
    """Callers at once and arrivals at a rate have no such calls; without the setting or a rule nobody has."""
    measure = {"batch_sizes": [1, 4], "concurrency": [1, 2], "rates": [50], "end_to_end": True}
    config = complete(config_of(tmp_path, write_behaviour, {}, measure=measure), Options())
    prepared = a_classifier(tmp_path)
    raw = [shape for shape in weighed_shapes(config, prepared) if "end_to_end" in shape]
    assert [(each["batch_size"], each["concurrency"]) for each in raw] == [(1, 1), (4, 1)]
    plain = complete(config_of(tmp_path, write_behaviour, {}), Options())
    assert weighed_shapes(plain, prepared) == shapes_of(plain, prepared)


def test_a_generator_is_not_weighed_from_end_to_end() -> None:
    """The setting is refused with the metric that is meant; a rule alone leaves it off, and says what it needs when it is judged."""
    workload = {"task": "text-generation", "model": "m"}
    with pytest.raises(ConfigError, match="measure.end_to_end is for classifiers.*e2e_latency"):
        complete(parse_config({"workload": workload, "measure": {"end_to_end": True}}, "test"), Options())
    rule = {"metric": "latency_end_to_end_p50", "max": 1.0}
    ruled = complete(parse_config({"workload": workload, "gates": {"rules": [rule]}}, "test"), Options())
    assert not ruled.measure.end_to_end


def a_classifier(folder: Path) -> Prepared:
    """A prepared classifier of rows, as far as its shapes go."""
    source = Source("fake", "m", "tabular-classification", "")
    return Prepared(folder, "w", "tabular-classification", "classifier", source, (), (0,), 1, False, None, "", None)


def a_generator(folder: Path, lengths: tuple[int, ...]) -> Prepared:
    """A prepared generator with prompts of these lengths, as far as its shapes go."""
    source = Source("fake", "m", "text-generation", "")
    return Prepared(folder, "w", "text-generation", "decoder", source, (), lengths, 1, False, None, "", None)


def test_every_prompt_length_is_measured_with_every_output_length(tmp_path: Path, write_behaviour: Write) -> None:
    """A generator's shapes are all pairs of prompt and output lengths at each batch size, and the longest answer is known."""
    config = config_of(tmp_path, write_behaviour, {}, measure={"max_new_tokens": [2, 16], "batch_sizes": [1, 4]})
    shapes = shapes_of(config, a_generator(tmp_path, (8, 32)))
    found = [(each["batch_size"], each["prompt_length"], each["max_new_tokens"]) for each in shapes]
    assert found == [(size, prompt, new) for size in (1, 4) for prompt in (8, 32) for new in (2, 16)]
    assert config.measure.most_new_tokens == 16


@pytest.mark.parametrize(
    ("task", "extent"),
    [
        ("text-generation", [{"prompt_length": 8, "max_new_tokens": 2}, {"prompt_length": 32, "max_new_tokens": 2}]),
        ("text-classification", [{"sequence_length": 16}]),
        ("image-classification", [{}]),
    ],
)
def test_the_shapes_that_a_config_asks_for_are_known_before_its_model(task: str, extent: list[dict[str, int]]) -> None:
    """Prompt lengths are asked of generators, sequence lengths of text classifiers, and neither of others."""
    measure = {"batch_sizes": [1, 4], "sequence_lengths": [16], "prompt_lengths": [8, 32], "max_new_tokens": 2}
    config = parse_config({"workload": {"task": task, "model": "m"}, "measure": measure}, "test")
    expected = [{"batch_size": size, **each, "threads": 1} for size in (1, 4) for each in extent]
    assert list(asked_shapes(config)) == expected


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default folder is named after the moment and the workload, and numbered where that is taken."""

    class Frozen(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Frozen":
            return cls(2026, 11, 26, 12, 30, 5, tzinfo=tz)

    monkeypatch.setattr("weighbridge.bench.running.datetime.datetime", Frozen)
    names = []
    for _ in range(3):
        folder = dated_folder(tmp_path, "my intents")
        folder.mkdir()
        names.append(folder.name)
    assert names == ["20261126-123005-my-intents", "20261126-123005-my-intents-2", "20261126-123005-my-intents-3"]


def test_callers_of_a_generator_are_refused(tmp_path: Path, write_behaviour: Write) -> None:
    """Concurrency and rates are for classifiers in this release, and a generator's config that asks for them says so."""
    config = config_of(tmp_path, write_behaviour, {}, measure={"concurrency": [2]})
    prepared = a_generator(tmp_path, (8,))
    with pytest.raises(NotAvailableYetError, match="measure.concurrency and measure.rates are not available yet"):
        shapes_of(config, prepared)
