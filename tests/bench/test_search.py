"""Whole searches of a tiny network in which one layer is badly hurt by INT8."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from weighbridge.bench import search as searching
from weighbridge.bench import stages
from weighbridge.bench.building import Built
from weighbridge.bench.checks import Checked
from weighbridge.bench.cli.main import app
from weighbridge.bench.cli.search import _finish
from weighbridge.bench.config import Config, load_config, parse_config
from weighbridge.bench.journal import JOURNAL, read_journal
from weighbridge.bench.predictions import read_class_predictions
from weighbridge.bench.reporter import Silent
from weighbridge.bench.results import Results, read_results
from weighbridge.bench.running import Options
from weighbridge.bench.schema import validate
from weighbridge.bench.search import resume, search
from weighbridge.bench.search_config import Wanted, final_config, float_of, leaving, searched_variant
from weighbridge.bench.search_findings import read_search
from weighbridge.bench.search_trials import TRIALS, Trials
from weighbridge.bench.session import Weighed
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.errors import BuildError, ConfigError, InputError
from weighbridge.optimize.files import holding
from weighbridge.optimize.variant import Manifest

PLANTED = "layer1"


class StoppedError(Exception):
    """Stands for the end of the process."""


def config_of(**parts: Any) -> Config:
    workload = {"name": "planted", "task": "tabular-classification", "model": "model.onnx", "data": "data.npz"}
    variants = [
        {"name": "float", "backend": "onnxruntime", "baseline": True},
        {
            "name": "int8",
            "backend": "onnxruntime",
            "precision": "int8",
            "steps": [{"use": "dynamic-int8", "per_channel": False, "reduce_range": True}],
        },
    ]
    measure = {"max_seconds": 0.2}
    return parse_config({"workload": workload, "variants": variants, "measure": measure, **parts}, "test")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, load_script: Callable[[str], ModuleType]) -> Iterator[Path]:
    """A folder with the example's network and data, of two layers and 400 rows, and a cache of its own."""
    folder = tmp_path_factory.mktemp("search")
    load_script("search_example").write_example(folder, layers=2, examples=400, outlier=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_CACHE", str(folder / "cache"))
        yield folder


def lines(run: Path) -> list[str]:
    return (run / "search" / TRIALS).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def searched(workplace: Path) -> tuple[Results, list[str]]:
    """A search that ended after three trials and was gone on with; its results, and the lines that the first half wrote.

    The run that judges takes no times: how it weighs is tested where runs are.
    """
    whole = Trials._new

    def stopping(trials: Trials, *asked: Any, **more: Any) -> Any:
        if len(trials._made) == 3:
            raise StoppedError
        return whole(trials, *asked, **more)

    run = workplace / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "_new", stopping)
        with pytest.raises(StoppedError):
            search(config_of(), Wanted(max_drop=0.15), Options(out=run, base=workplace))
    before = lines(run)
    with (run / "search" / TRIALS).open("a", encoding="utf-8") as stream:
        stream.write('{"event": "trial", "number": 3, "pha')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "weigh", lambda *_, **__: Weighed())
        return resume(run), before


def test_the_planted_layer_is_found_and_left_in_float(searched: tuple[Results, list[str]]) -> None:
    """The layer with the outlier gives back what was lost and is returned; one that holds most weights cannot be; the run passes."""
    results, _ = searched
    found = results.search
    assert found is not None
    gains = {each.layer: each.accuracy.value for each in found.sensitivity if each.accuracy}
    assert gains == {PLANTED: pytest.approx(0.35, abs=0.2)}
    (refused,) = (each.reason for each in found.sensitivity if each.layer == "layer0")
    assert "most weights of matrix products and convolutions are still floating point" in refused
    assert (found.chosen, found.met, found.ledger[0].layer) == ("int8-keep-1", True, PLANTED)
    manifest = json.loads((results.folder / "variants" / "int8-keep-1" / "manifest.json").read_text(encoding="utf-8"))
    assert Manifest.from_dict(manifest).steps[-1].details["layers_excluded"] == [PLANTED]
    assert [gate.verdict for gate in results.gates] == ["pass"]
    assert results.exit_code == 0
    assert found.sentences[0] in results.notices


def test_trials_made_before_the_end_are_not_made_again(searched: tuple[Results, list[str]]) -> None:
    """Gone on with, a search keeps the lines of its first half, takes out the one cut short, and numbers every trial once."""
    results, before = searched
    after = lines(results.folder)
    assert len(before) == 3
    assert after[:3] == before
    numbers = [json.loads(line)["number"] for line in after]
    assert numbers == list(range(len(after)))
    assert results.search is not None
    assert [row.number for row in results.search.trials] == numbers
    assert results.search.seconds == pytest.approx(sum(json.loads(line)["seconds"] for line in after))
    for row in results.search.trials:
        scores = results.folder / "search" / "trials" / f"{row.number:03d}" / "scores.npy"
        assert scores.is_file() == (not row.reason)
        assert row.reason or np.load(scores).shape == (200, 3)


def test_what_is_judged_was_not_chosen_on(searched: tuple[Results, list[str]]) -> None:
    """Trials answered rows of the choosing part alone; the run judged the other half, whose answers differ from theirs."""
    results, _ = searched
    found = results.search
    assert found is not None
    assert (found.choosing, found.judging) == (200, 200)
    assert {each.n for each in results.measurements if each.metric == "accuracy"} == {200}
    scored = np.load(results.folder / "search" / "trials" / "001" / "scores.npy")
    judged = read_class_predictions(results.folder)["float"].scores  # the same graph as the float model of trial 1
    assert not {row.tobytes() for row in scored} & {row.tobytes() for row in judged}


def test_results_with_a_search_are_valid_and_read_back(searched: tuple[Results, list[str]]) -> None:
    """results.json follows the published schema, and its search reads back equal."""
    results, _ = searched
    validate(json.loads((results.folder / "results.json").read_text(encoding="utf-8")))
    assert read_results(results.folder).search == results.search == read_search(results.folder)


def cut_short(run: Path, copy: Path) -> Path:
    """A copy of a search whose judging run lacks its last line; results are there, as `weighbridge gate` writes them of any run."""
    shutil.copytree(run, copy)
    *before, last = (copy / JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
    assert json.loads(last)["event"] == "weighed"
    (copy / JOURNAL).write_text("".join(before), encoding="utf-8")
    return copy


def test_results_of_an_unfinished_search_do_not_end_it(
    searched: tuple[Results, list[str]], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decides is the journal: the judging run is gone on with to its last line, and no trial is made again."""
    results, _ = searched
    copy = cut_short(results.folder, workplace / "cut")
    trials, judged = lines(copy), read_journal(copy)
    monkeypatch.setattr(stages, "weigh", lambda *_, **__: Weighed())
    again = resume(copy)
    assert [event["event"] for event in read_journal(copy)[len(judged) :]] == ["resumed", "weighed"]
    assert lines(copy) == trials
    assert (again.exit_code, again.search) == (results.exit_code, results.search)


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)


def test_of_a_finished_search_only_the_results_are_derived_again(searched: tuple[Results, list[str]]) -> None:
    """They come back with their exit code and are written; the journal stays as it was, and more time for trials is refused."""
    results, _ = searched
    journal, reporter = (results.folder / JOURNAL).read_bytes(), Listening()
    (results.folder / "results.json").unlink()
    again = resume(results.folder, reporter=reporter)
    assert (again.exit_code, again.search) == (0, results.search)
    assert read_results(results.folder).search == results.search
    assert reporter.told == [f"{results.folder} is finished: nothing is done again but its results."]
    assert (results.folder / JOURNAL).read_bytes() == journal
    with pytest.raises(ConfigError, match="is finished, and its trials with it: leave out --max-seconds"):
        resume(results.folder, max_seconds=5)


def test_a_search_at_work_is_left_alone(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its trials are made a search holds its folder, and to go on with one that is held is refused."""
    run = workplace / "held"

    def trials(*_: Any) -> None:
        with pytest.raises(BlockingIOError), holding(run / "search"):
            pass
        raise StoppedError

    monkeypatch.setattr(searching, "_explored", trials)
    with pytest.raises(StoppedError):
        search(config_of(), Wanted(), Options(out=run, base=workplace))
    with holding(run / "search"), pytest.raises(InputError, match="another process is at work on .*held; wait for it"):
        resume(run)


def test_a_search_goes_on_only_with_what_it_began_with(searched: tuple[Results, list[str]], workplace: Path) -> None:
    """A folder without a search, other data, and a damaged finding are each refused with the reason."""
    results, _ = searched
    with pytest.raises(InputError, match="holds no search"):
        resume(workplace)
    copy = cut_short(results.folder, workplace / "copy")
    asked = copy / "search" / "search.json"
    data = json.loads(asked.read_text(encoding="utf-8"))
    data["hashes"]["data"] = "other"
    asked.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError, match="the data changed since the search began"):
        resume(copy)
    (copy / "search" / "findings.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="the run folder is damaged"):
        read_search(copy)


def test_which_variant_is_searched() -> None:
    """The first INT8 candidate of ONNX Runtime, or the one named; where there is none, the error says what to add."""
    config = config_of()
    assert searched_variant(config, None).name == "int8"
    assert searched_variant(config, "int8").name == "int8"
    with pytest.raises(ConfigError, match="variant 'float' can be searched: .* Add one: { backend"):
        searched_variant(config, "float")
    with pytest.raises(ConfigError, match="did you mean|int8"):
        searched_variant(config, "int9")
    default = {"backend": "onnxruntime", "precision": "int8"}
    others: list[dict[str, Any]] = [{"backend": "torch", "baseline": True}, {"backend": "torch", "precision": "bf16"}]
    assert searched_variant(config_of(variants=[*others, default]), None).name == "onnxruntime-int8"
    packed = {
        "name": "packed",
        "backend": "onnxruntime",
        "precision": "int8",
        "steps": [{"use": "weight-only", "bits": 8}],
    }
    for variant in ({"backend": "onnxruntime", "precision": "int4"}, packed):
        searched = searched_variant(config_of(variants=[*others, variant]), None)
        assert searched.precision == variant["precision"]
    with pytest.raises(ConfigError, match="no variant of the config can be searched"):
        searched_variant(config_of(variants=others), None)


def test_layers_are_left_out_beside_those_that_the_config_leaves_out() -> None:
    """A trial adds its layers to the `exclude` of the last step; without steps it is the default step's."""
    step = {"use": "static-int8", "exclude": ["a"]}
    variant = {"name": "v", "backend": "onnxruntime", "precision": "int8", "steps": [step]}
    base = {"backend": "torch", "baseline": True}
    given, bare = config_of(variants=[base, variant, {**variant, "name": "w", "steps": []}]).variants[1:]
    assert leaving(given, ("b", "c"), "classifier").steps[-1]["exclude"] == ["a", "b", "c"]
    (step,) = leaving(bare, ("b",), "classifier", "kept").steps
    assert (step["use"], step["exclude"]) == ("dynamic-int8", ["b"])
    assert leaving(given, (), "classifier") is given
    (step,) = leaving(bare.model_copy(update={"precision": "int4"}), ("b",), "decoder").steps
    assert (step["use"], step["bits"], step["block_size"], step["exclude"]) == ("weight-only", 4, 128, ["b"])


def test_the_float_model_has_the_precision_that_the_other_steps_leave() -> None:
    """Without its quantization a variant is FP32, or FP16 where a step before it halved the weights."""
    halvings: list[dict[str, str]] = [{"use": "onnx-half-precision"}, {"use": "half-precision", "dtype": "fp16"}]
    quantizing = {"use": "weight-only", "bits": 4}
    variant = {"name": "v", "backend": "onnxruntime", "precision": "int4", "steps": [quantizing]}
    base = {"backend": "torch", "baseline": True}
    (plain,) = config_of(variants=[base, variant]).variants[1:]
    assert (float_of(plain).precision, len(float_of(plain).steps)) == ("fp32", 0)
    for halving in halvings:
        (half,) = config_of(variants=[base, {**variant, "steps": [halving, quantizing]}]).variants[1:]
        assert (float_of(half).precision, len(float_of(half).steps)) == ("fp16", 1)


def test_a_generators_budget_is_a_rule_on_perplexity() -> None:
    """It comes first, once, beside the rules of the config's preset for generators; all ask the chosen one."""
    data = config_of().model_dump(exclude_none=True)
    data["workload"] = {"name": "w", "task": "text-generation", "model": "m", "data": "t.txt"}
    config = parse_config({**data, "gates": {"preset": "no-regression"}}, "test")
    final = final_config(config, "decoder", 0.02, config.variants[1], {"int8": ()}, "int8")
    first, *rest = final.gates.rules
    assert (first.metric, first.compare, first.max) == ("perplexity", "ratio", 1.02)
    assert [(each.metric, each.max) for each in rest] == [("tpot", 1.03), ("perplexity", 1.01)]
    assert {each.variants for each in final.gates.rules} == {("int8",)}


def test_the_rules_of_the_judging_run_are_asked_of_the_choice() -> None:
    """The budget comes first, then the config's own rules for all or for the searched variant, each for the chosen one only."""
    rules = [
        {"metric": "latency_p50", "max": 0.5},
        {"metric": "f1_macro", "compare": "difference", "min": -0.1, "variants": ["int8"], "slice": "part"},
        {"metric": "throughput", "min": 1.5, "variants": ["other"]},
    ]
    other = {"name": "other", "backend": "onnxruntime", "precision": "fp16"}
    variants = [each.model_dump(exclude_none=True) for each in config_of().variants]
    config = config_of(variants=[*variants, other], gates={"preset": "no-regression", "rules": rules})
    kept = {"int8": (), "int8-keep-1": ("layer1",)}
    final = final_config(config, "classifier", 0.01, config.variants[1], kept, "int8-keep-1")
    assert [each.name for each in final.variants] == ["float", "int8", "int8-keep-1"]
    assert [(each.metric, each.min, each.max, each.slice) for each in final.gates.rules] == [
        ("accuracy", -0.01, None, None),
        ("latency_p50", None, 1.03, None),
        ("latency_p50", None, 0.5, None),
        ("f1_macro", -0.1, None, "part"),
    ]
    assert {each.variants for each in final.gates.rules} == {("int8-keep-1",)}
    assert final.gates.required == ("int8-keep-1",)


def test_the_baseline_stays_in_the_cache_while_it_answers(
    fake_workload: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the baseline is asked, nobody else can take its artifact for themselves; what it fails with ends the search."""
    config = config_of()

    def check(*_: Any, **__: Any) -> Checked:
        with pytest.raises(BlockingIOError), holding(tmp_path):
            pass
        return Checked(config.baseline.name, {}, failure="it was in use")

    monkeypatch.setattr(searching, "build", lambda *_, **__: Built(config.baseline, "ok", folder=tmp_path))
    monkeypatch.setattr(searching, "check", check)
    with pytest.raises(BuildError, match="which the search compares with, failed: it was in use"):
        searching._baseline_answers(config, fake_workload, Options(), Silent())


@pytest.fixture
def command(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run the command in a folder with a config of the network; its result."""
    (workplace / "weighbridge.toml").write_text(
        '[workload]\ntask = "tabular-classification"\nmodel = "model.onnx"\ndata = "data.npz"\n', encoding="utf-8"
    )
    monkeypatch.chdir(workplace)
    return lambda *arguments: CliRunner().invoke(app, ["search", *arguments])


def test_a_plan_starts_nothing(command: Callable[..., Any], workplace: Path) -> None:
    """`--plan` names the variant, the budget, the time and how much is weighed at the end; no folder is made."""
    printed = " ".join(command("--plan", "--max-drop", "0.02", "--max-seconds", "60").output.split())
    assert "The layers of onnxruntime-int8 would be tried in float one by one" in printed
    assert "at most 2 points below onnxruntime-fp32's: at most 60 s of trials" in printed
    assert "at most 6 variants, 60 s of sampling. Estimated time: at most 3 minutes." in printed
    assert not (workplace / "runs").exists()
    assert load_config(workplace / "weighbridge.toml").variants == ()


def test_resume_takes_nothing_that_was_asked_before(command: Callable[..., Any]) -> None:
    """`--resume` with a config or another budget is refused: the search goes on with what it was asked for."""
    for more in (["weighbridge.toml"], ["--max-drop", "0.1"], ["--plan"]):
        error = command("--resume", "run", *more).exception
        assert isinstance(error, ConfigError)
        assert "give it alone, or with another --max-seconds" in str(error)


def test_the_tables_are_printed_with_their_names_as_they_are(
    searched: tuple[Results, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints sensitivity, ledger and front before the run's own table; what looks like markup in a name is kept."""
    results, _ = searched
    assert results.search is not None
    monkeypatch.setattr("weighbridge.bench.cli.finish.present", lambda *_: 3)
    (first, *rest) = results.search.ledger
    ledger = (replace(first, layer="[red]x"), *rest)
    assert _finish(replace(results, search=replace(results.search, ledger=ledger)), Silent()) == 3
    printed = capsys.readouterr().out
    assert [title for title in ("Sensitivity", "Ledger", "Front") if title in printed] == [
        "Sensitivity",
        "Ledger",
        "Front",
    ]
    assert PLANTED in printed
    assert "[red]x" in printed
