"""Fake variants and workloads: known truth for the meter, the judge and the command line."""

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tomli_w
from weighbridge.bench.config import Config, WorkloadConfig, to_toml
from weighbridge.bench.derive import derive
from weighbridge.bench.journal import Journal
from weighbridge.bench.metrics import Conditions
from weighbridge.bench.predictions import ClassPredictions, write_class_predictions
from weighbridge.bench.reporter import Reporter
from weighbridge.bench.results import Results
from weighbridge.bench.running import Options, asked_shapes, kind_of
from weighbridge.bench.samples import CONTROL, Recorder, key_of
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.backends.fake_backend import Behaviour, read_behaviour, signature_of
from weighbridge.optimize.files import sha256_of_file, write_json
from weighbridge.optimize.variant import MANIFEST, Manifest

END = "<end>"
SCRIPTS = Path(__file__).resolve().parents[2] / "bench" / "scripts"


def _write_behaviour(path: Path, **behaviour: Any) -> Path:
    """Write a behaviour file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(behaviour), encoding="utf-8")
    return path


def _fake_variant(folder: Path, **behaviour: Any) -> Path:
    """Write a built fake variant and return its folder."""
    file = _write_behaviour(folder / "model.fake.json", **behaviour)
    manifest = Manifest(
        backend="fake",
        precision="fp32",
        recipe={"backend": "fake", "precision": "fp32", "steps": []},
        source={},
        calibration_sha256=None,
        tools={},
        files=(file.name,),
        sha256={file.name: sha256_of_file(file)},
        bytes=file.stat().st_size,
        parameters=1,
        sparsity=0.0,
        build_seconds=0.0,
        signature=signature_of(Behaviour()),
        steps=(),
        parity=None,
        audit=Audit(ok=True),
    )
    write_json(folder / MANIFEST, manifest.to_dict())
    return folder


@pytest.fixture
def fake_workload(tmp_path: Path) -> Prepared:
    """A prepared fake workload of 300 examples in three classes."""
    path = _write_behaviour(tmp_path / "source.fake.json")
    config = WorkloadConfig(name="fake", task="tabular-classification", model=str(path))
    return prepare_fake(config, path, tmp_path / "prepared")


@pytest.fixture(scope="session")
def fake_variant() -> Callable[..., Path]:
    """Write a built fake variant: (folder, **behaviour) -> folder."""
    return _fake_variant


@pytest.fixture(scope="session")
def write_behaviour() -> Callable[..., Path]:
    """Write a behaviour file: (path, **behaviour) -> path."""
    return _write_behaviour


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 of 64 positions with random weights, and a byte-level tokenizer learnt from a few words."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
    from weighbridge.optimize.quiet import quiet

    folder = tmp_path_factory.mktemp("generator")
    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(
        ["the cat sat on the mat"] * 4, vocab_size=280, special_tokens=[END], show_progress=False
    )
    tokenizer = GPT2TokenizerFast(tokenizer_object=learnt._tokenizer, eos_token=END, bos_token=END)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": len(tokenizer)}
    with quiet():
        config = GPT2Config(initializer_range=0.5, bos_token_id=0, eos_token_id=0, **sizes)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def load_script() -> Iterator[Callable[[str], ModuleType]]:
    """Load a script of bench/scripts as a module: (name) -> module."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # its dataclasses look themselves up there
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]


@pytest.fixture
def written_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Options]]:
    """Have a pytest session's runs written down from the fake models' behaviour instead of being weighed.

    The list gets the config and the options of each. Everything after the raw files is real: the judge, the results, the replay.
    """
    runs: list[tuple[Config, Options]] = []

    def run(config: Config, options: Options, reporter: Reporter) -> Results:
        reporter.tell("written, not weighed")
        runs.append((config, options))
        return _write_run(config, options)

    monkeypatch.setattr("weighbridge.bench.running.run", run)
    return runs


def _write_run(config: Config, options: Options) -> Results:
    """Write four replicates of the fake models of a config, and derive the results."""
    folder = options.out or Path()
    models = {
        each.name: read_behaviour(options.base / str(each.artifact or config.workload.model))
        for each in config.variants
    }
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
    write_json(folder / "environment.json", {"cores": 2})
    journal = Journal(folder)
    journal.write("prepared", kind=kind_of(config), class_names=["a", "b", "c"], drawn=False, notices=[])
    for variant in config.variants:
        status, reason = "ok", models[variant.name].fail_at_open
        if variant.backend != "fake":
            status, reason = "unavailable", f"{variant.backend} is not installed"
        elif reason:
            status = "failed"
        journal.write("built", variant=variant.name, status=status, reason=reason, note="", from_cache=False)
        if status != "ok":
            del models[variant.name]
    journal.write("plan", replicates=4, seconds_per_replicate=1.0, percentile_seconds=60.0)
    for number in range(1, 5):
        _write_replicate(folder, number, {**models, CONTROL: models[config.baseline.name]}, asked_shapes(config))
        journal.write("replicate", number=number, failed={}, workers={})
    if kind_of(config) == "classifier":
        write_class_predictions(folder, {name: _answers(model) for name, model in models.items()})
    return derive(folder, inconclusive=options.inconclusive)


def _write_replicate(folder: Path, number: int, models: dict[str, Behaviour], shapes: tuple[Conditions, ...]) -> None:
    """Ten timed calls a visit in five rounds; a request of a generator has its prefill and as many tokens as are asked."""
    recorder = Recorder(number)
    for place, (name, model) in enumerate(models.items()):
        random = np.random.default_rng([number, place, model.seed])
        for shape in shapes:
            parts = int(shape.get("max_new_tokens", 1))
            for round_ in range(1, 6):
                times = model.latency_ms * np.exp(model.noise * random.standard_normal((10, parts)))
                where = {"variant": name, "shape": key_of(shape), "round_": round_, "visit": place}
                recorder.add(times.tolist(), ["timed"] * 10, **where)
    recorder.write(folder)


def _answers(model: Behaviour) -> ClassPredictions:
    """Answers to 300 examples of three classes, the first share of them wrong."""
    labels = np.arange(300) % 3
    predicted = np.where(np.arange(300) < 300 * model.error_rate, (labels + 1) % 3, labels)
    texts = tuple(f"row {number}" for number in range(300))
    return ClassPredictions(labels, predicted, np.eye(3, dtype=np.float32)[predicted], texts)


_PLUGIN = (
    ()
    if importlib.metadata.entry_points(group="pytest11", name="weighbridge")
    else ("-p", "weighbridge.bench.pytest_plugin")
)


_QUICKLY = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
"""Hypothesis is imported anew by every session within a process, which takes seconds."""


@pytest.fixture
def inner_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run pytest with the plugin, in this process and in the test's own folder: (*arguments) -> result."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setattr("pytest_benchmark.plugin.get_cpu_info", dict)  # it would take a second

    def run(*arguments: str | Path) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*_PLUGIN, *_QUICKLY, "-W", "default", *arguments)

    return run


@pytest.fixture
def write_project(pytester: pytest.Pytester) -> Callable[..., Path]:
    """Write a config of fake models of 2 ms (base), 1 ms (fast) and 2.2 ms (slow): (models, **config) -> its path."""

    def write(models: dict[str, dict[str, Any]] | None = None, file: str = "weighbridge.toml", **parts: Any) -> Path:
        known = {
            "base": {"latency_ms": 2.0},
            "fast": {"latency_ms": 1.0},
            "slow": {"latency_ms": 2.2},
            **(models or {}),
        }
        variants: list[dict[str, Any]] = [{"name": "base", "backend": "fake", "baseline": True}]
        for name, behaviour in known.items():
            _write_behaviour(pytester.path / f"{name}.fake.json", **behaviour)
            if name != "base":
                variants.append({"name": name, "backend": "fake", "artifact": f"{name}.fake.json"})
        workload = {"name": "toy", "task": "tabular-classification", "model": "base.fake.json"}
        more = parts.pop("variants", [])
        config = {"workload": workload, "variants": [*variants, *more], **parts}
        path = pytester.path / file
        path.write_text(tomli_w.dumps(config), encoding="utf-8")
        return path

    return write
