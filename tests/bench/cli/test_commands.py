"""The command line as a user meets it: exit codes, sentences, files; every command as a process of its own."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.bench.config import GatesConfig, parse_config
from weighbridge.bench.derive import derive
from weighbridge.optimize.errors import ConfigError

COMMAND = [sys.executable, "-P", "-c", "from weighbridge.bench.cli.main import main; main()"]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def weighbridge(tmp_path: Path, cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in the test's own folder and return what it did."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "WEIGHBRIDGE_CACHE": str(cache), "COLUMNS": "80"}
        command = [*COMMAND, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240
        )

    return run


def linear(path: Path, weight: float = 1.0, *, batch: int | str = "batch", features: int = 4) -> Path:
    """A tiny classifier: three scores, a product of the features with fixed weights."""
    table = (weight * np.random.default_rng(0).standard_normal((features, 3))).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(table, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return path


def fake_config(folder: Path, write: Write, rules: str, **candidate: Any) -> Path:
    """A config of two fake models and the given rules."""
    write(folder / "base.fake.json", latency_ms=2.0)
    write(folder / "next.fake.json", **candidate)
    path = folder / "weighbridge.toml"
    path.write_text(
        '[workload]\nname = "w"\ntask = "tabular-classification"\nmodel = "base.fake.json"\n'
        '[[variants]]\nname = "base"\nbackend = "fake"\nbaseline = true\n'
        '[[variants]]\nname = "next"\nbackend = "fake"\nartifact = "next.fake.json"\n' + rules,
        encoding="utf-8",
    )
    return path


CLOSE = '[[gates.rules]]\nmetric = "accuracy"\ncompare = "difference"\nmin = -0.01\n'
"""A margin of one point, which 300 examples cannot show."""
RULE = '[[gates.rules]]\nmetric = "latency_p50"\ncompare = "ratio"\nmax = {}\n'


@pytest.mark.parametrize(
    ("rule", "candidate", "code", "verdict"),
    [
        (RULE.format(0.6), {"latency_ms": 1.0}, 0, "pass"),
        (RULE.format(0.4), {"latency_ms": 1.0}, 1, "fail"),
        (CLOSE, {"latency_ms": 1.0}, 3, "inconclusive"),
        (RULE.format(0.6), {"latency_ms": 1.0, "fault": "kill", "fault_at_call": 100}, 4, "not_evaluated"),
    ],
)
def test_run_exits_by_its_verdicts(
    rule: str,
    candidate: dict[str, Any],
    code: int,
    verdict: str,
    weighbridge: Any,
    tmp_path: Path,
    write_behaviour: Write,
) -> None:
    """Rules set to pass, to fail and to be undecidable give 0, 1 and 3 (warned of, 0); a variant that dies gives 4 and is told."""
    fake_config(tmp_path, write_behaviour, rule + 'variants = ["next"]\n', **candidate)
    done = weighbridge("run", "--out", "run", "--quick")
    assert done.returncode == code, done.stdout + done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [gate["verdict"] for gate in results["gates"]] == [verdict]
    assert results["exit_code"] == code
    assert (tmp_path / "run" / "report.html").is_file()
    assert max(len(line) for line in done.stdout.splitlines() if "report:" not in line) <= 80
    assert "\x1b" not in done.stdout + done.stderr
    if code in (3, 4):
        again = weighbridge("gate", "run", "--inconclusive", "warn")
        assert again.returncode == (0 if code == 3 else 4)
        assert ("? next: accuracy" if code == 3 else "next: failed: while it was weighed") in again.stdout


def test_gate_and_report_work_on_a_finished_run(
    weighbridge: Any, tmp_path: Path, write_behaviour: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is judged again by other rules in three formats, and rendered in every one; `latest` finds it.

    What its processes told is judged too, and rules that name a variant which it has not are refused.
    """
    fake_config(tmp_path, write_behaviour, RULE.format(0.6), latency_ms=1.0)
    assert weighbridge("run", "--quick", "--inconclusive", "warn").returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    told = [{"metric": name, "compare": "value", "max": 1e12} for name in ("load_time", "first_call", "peak_memory")]
    gates = derive(folder, gates=GatesConfig.model_validate({"rules": told})).gates
    assert [(gate.metric, gate.verdict) for gate in gates] == [(rule["metric"], "pass") for rule in told]
    unknown = GatesConfig.model_validate({"required": ["nxt"], "rules": told})
    with pytest.raises(ConfigError, match="the rules do not fit the run w: unknown variant 'nxt'; did you mean 'next'"):
        derive(folder, gates=unknown)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULE.format(0.4), encoding="utf-8")
    judged = weighbridge("gate", "latest", "--rules", rules, "--format", "json")
    assert judged.returncode == 1
    verdicts = json.loads(judged.stdout)
    assert (verdicts["exit_code"], verdicts["gates"][0]["verdict"], verdicts["variants"]) == (1, "fail", [])
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    github = weighbridge("gate", "latest", "--rules", rules, "--format", "github")
    assert github.stdout.startswith("::error title=weighbridge fail%3A next latency_p50::next: latency_p50 0.5x")
    summary = (tmp_path / "step.md").read_text(encoding="utf-8").splitlines()
    assert summary[0].startswith("### ")
    assert len(summary) <= 60
    assert weighbridge("gate", "latest").returncode == 0
    for form, start in (("html", "<!doctype html>"), ("md", "#"), ("csv", ""), ("json", "{"), ("junit", "<?xml")):
        out = tmp_path / f"out.{form}"
        assert weighbridge("report", "latest", "--out", out, "--format", form).returncode == 0
        assert out.read_text(encoding="utf-8").lower().startswith(start)


def test_compare_without_data_measures_speed_and_agreement(weighbridge: Any, tmp_path: Path) -> None:
    """Two .onnx files of a fixed batch: inputs are drawn from their signature, accuracy is not judged, exit 0."""
    linear(tmp_path / "a.onnx", batch=4)
    linear(tmp_path / "b.onnx", 2.0, batch=4)
    done = weighbridge("compare", "a.onnx", "b.onnx", "--out", "run", "--quick")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert {
        each["conditions"]["batch_size"] for each in results["measurements"] if each["metric"] == "latency_p50"
    } == {4}
    assert [each["value"] for each in results["measurements"] if each["metric"] == "agreement"] == [1.0]
    assert not [each for each in results["measurements"] if each["metric"] == "accuracy"]
    assert "accuracy not judged" in done.stdout


def test_compare_respects_what_only_one_of_the_two_has_fixed(weighbridge: Any, tmp_path: Path) -> None:
    """A baseline of free batch beside a candidate of batch 4 is weighed in batches of 4, either way round; 4 beside 2 is refused."""
    linear(tmp_path / "free.onnx")
    for size in (2, 4):
        linear(tmp_path / f"{size}.onnx", 2.0, batch=size)
    for first, second, out in (("free.onnx", "4.onnx", "a"), ("4.onnx", "free.onnx", "b")):
        done = weighbridge("compare", first, second, "--out", out, "--quick", "--max-seconds", "1")
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / out / "results.json").read_text(encoding="utf-8"))
        sizes = {
            each["conditions"]["batch_size"] for each in results["measurements"] if each["metric"] == "latency_p50"
        }
        assert sizes == {4}
        told = "A model of this run takes batches of 4 only; batch sizes [1] were not measured."
        assert told in results["notices"]
    refused = weighbridge("compare", "2.onnx", "4.onnx")
    assert refused.returncode == 2
    assert re.search(r"is fixed by \S*2\.onnx at 2 and by \S*4\.onnx at 4", " ".join(refused.stderr.split()))


def test_compare_with_data_measures_accuracy(weighbridge: Any, tmp_path: Path) -> None:
    """With labelled rows the accuracies are those of numpy on the same table."""
    linear(tmp_path / "a.onnx")
    linear(tmp_path / "b.onnx", -1.0)
    values = np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32)
    table = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    labels = (values @ table).argmax(axis=1)
    rows = [
        ",".join([*(repr(float(number)) for number in row), str(label)])
        for row, label in zip(values, labels, strict=True)
    ]
    (tmp_path / "test.csv").write_text("\n".join(["a,b,c,d,label", *rows]), encoding="utf-8")
    done = weighbridge("compare", "a.onnx", "b.onnx", "--data", "test.csv", "--out", "run", "--quick")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    accuracy = {each["variant"]: each["value"] for each in results["measurements"] if each["metric"] == "accuracy"}
    assert accuracy == {"a": 1.0, "b": float(((values @ -table).argmax(axis=1) == labels).mean())}


def test_a_factory_is_built_and_weighed(weighbridge: Any, tmp_path: Path) -> None:
    """`run package.module:factory --data FILE` builds torch and ONNX variants of a torch module and prints its config."""
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef model():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))\n",
        encoding="utf-8",
    )
    random = np.random.default_rng(0)
    rows = [",".join([*(f"{number:.4f}" for number in random.standard_normal(4)), str(row % 3)]) for row in range(40)]
    (tmp_path / "test.csv").write_text("\n".join(["a,b,c,d,label", *rows]), encoding="utf-8")
    done = weighbridge("run", "mine:model", "--data", "test.csv", "--out", "run", "--quick", "--inconclusive", "warn")
    assert done.returncode in (0, 1), done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert {row["name"]: row["status"] for row in results["variants"]} == {
        "torch-fp32": "ok",
        "onnxruntime-fp32": "ok",
        "onnxruntime-int8": "ok",
    }
    printed = parse_config(tomllib.loads(done.stdout.partition("mine:model: batch_size")[0]), "printed")
    assert printed.workload.model == "mine:model"
    assert [variant.name for variant in printed.variants] == ["torch-fp32", "onnxruntime-fp32", "onnxruntime-int8"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "weighbridge init"),
        (["run", "absent.toml"], "cannot be read"),
        (["run", "model.onnx"], "is not a .toml config"),
        (["run", "--data", "test.csv"], "--data needs a model"),
        (["run", "weighbridge.toml", "--labels", "l.gz"], "--labels belongs to --data, which is not given"),
        (["run", "--tokenizer", "t"], "a config names its own as workload.tokenizer"),
        (["run", "weighbridge.toml", "--data", "test.csv"], "weighbridge.toml is a config and names its data"),
        (["run", "--workload", "digit-cnn"], "did you mean 'digits-cnn'?"),
        (["run", "--workload", "digits-cnn", "--data", "absent.csv"], "data absent.csv is not a file"),
        (["run", "--workload", "digits-cnn", "--labels", "l.gz"], "workload.labels belongs to workload.data"),
        (["run", "model.onnx", "--workload", "digits-cnn"], "only bert-sentiment, gpt2-text start from a model"),
        (["run", "a.toml", "--workload", "digits-cnn"], "a.toml is a config and names what is weighed"),
        (["run", "--workload", "digits-cnn", "--tokenizer", "t"], "--tokenizer is of a model without one"),
        (["run", "--resume", "somewhere"], "somewhere is not a run folder: it has no journal.jsonl"),
        (["run", "--resume", "latest"], "there is no run under runs/"),
        (["run", "--resume", "somewhere", "--quick"], "goes on with what the run was begun with: give it alone"),
        (["run", "weighbridge.toml", "--resume", "somewhere"], "give it alone, or with --inconclusive"),
        (["run", "model.onnx", "--data", "absent.csv"], "is not a file"),
        (["run", "empty.onnx", "--data", "test.csv"], "is not an ONNX model"),
        (["run", "absent.onnx", "--data", "test.csv"], "absent.onnx"),
        (["run", "a-folder", "--data", "test.csv"], "a-folder"),
        (["run", "nowhere:model", "--data", "test.csv"], "module nowhere cannot be imported"),
        (["compare", "absent.onnx", "absent.onnx"], "does not exist"),
        (["compare", "empty.onnx", "empty.onnx", "--labels", "l.gz"], "--labels belongs to --data, which is not given"),
        (["compare", "empty.onnx", "empty.onnx"], "is not an ONNX model"),
        (["report", "nowhere"], "is not a run folder"),
        (["gate", "nowhere"], "is not a run folder"),
        (["gate", "latest"], "there is no run under runs/"),
        (["gate", "nowhere", "--baseline", "latest"], "is not a run folder"),
        (["gate", "nowhere", "--rules", "absent.toml"], "cannot be read"),
        (["gate", "nowhere", "--rules", "empty.toml"], "holds no rule"),
        (["gate", "nowhere", "--rules", "kinds.toml"], 'rule on agreement: it has no ratio; write compare = "value"'),
        (["search"], "weighbridge init"),
        (["doctor", "--noise", "4"], "Invalid value for 'SECONDS'"),
        (["doctor", "30"], "SECONDS is for the noise floor only: `weighbridge doctor --noise 30`"),
        (["weigh"], "No such command"),
        (["run", "--max-seconds", "soon"], "Invalid value for '--max-seconds'"),
    ],
)
def test_bad_usage_is_exit_2_with_a_sentence(
    arguments: list[str], sentence: str, weighbridge: Any, tmp_path: Path
) -> None:
    """Whatever is wrong with a command gives exit 2 and a sentence, no traceback, and leaves nothing behind."""
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "empty.onnx").write_bytes(b"not a model")
    (tmp_path / "empty.toml").write_text("", encoding="utf-8")
    (tmp_path / "kinds.toml").write_text('[[rules]]\nmetric = "agreement"\nmin = 0.99\n', encoding="utf-8")
    (tmp_path / "test.csv").write_text("a,b,label\n1,2,0\n3,4,1\n", encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = weighbridge(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", "is empty"),
        ("a,b,c,d,label\n", "has no rows"),
        ("a,b,c,d,label\n1,2,3,x,0\n", "column 'd' is not numeric"),
        ("a,b,c,label\n1,2,3,0\n", "do not fit the model's input"),
        ("a,b,c,d,label\n1,2,3,,0\n", "empty or not finite"),
        ("a,b,c,d,label\n1,2,3,4,\n", "have no label"),
    ],
)
def test_bad_tables_are_exit_2_with_a_sentence(table: str, sentence: str, weighbridge: Any, tmp_path: Path) -> None:
    """A table that is empty, not numeric, of the wrong width or without labels is refused before anything is written."""
    linear(tmp_path / "a.onnx")
    (tmp_path / "test.csv").write_text(table, encoding="utf-8")
    done = weighbridge("run", "a.onnx", "--data", "test.csv", "--out", "run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_init_writes_a_config_that_is_valid_and_never_overwrites(weighbridge: Any, tmp_path: Path) -> None:
    """The written config plans (its model is missing, which planning does not need); a second init is refused."""
    assert weighbridge("init").returncode == 0
    planned = weighbridge("run", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "Estimated time" in planned.stdout
    assert "It needs about" in planned.stdout
    text = (tmp_path / "weighbridge.toml").read_text(encoding="utf-8")
    again = weighbridge("init")
    assert again.returncode == 2
    assert "exists already and is left alone" in again.stderr
    assert (tmp_path / "weighbridge.toml").read_text(encoding="utf-8") == text


def test_build_writes_each_variant_with_its_manifest(weighbridge: Any, tmp_path: Path, write_behaviour: Write) -> None:
    """`build` leaves a folder a variant, artifact and manifest in it."""
    fake_config(tmp_path, write_behaviour, "", latency_ms=1.0)
    done = weighbridge("build", "--out", "built")
    assert done.returncode == 0, done.stderr
    names = {str(path.relative_to(tmp_path / "built")) for path in (tmp_path / "built").rglob("*.json")}
    assert {"base/manifest.json", "next/manifest.json"} <= names
    assert weighbridge("build", "--out", "built").returncode == 2


def test_doctor_and_workloads_fit_80_columns(weighbridge: Any) -> None:
    """Each backend is listed with its reason, each built-in workload with its task, in 80 columns."""
    for command, words in (
        ("doctor", ("affinity: processors", "control group's quota:", "onnxruntime", "tensorrt is not installed")),
        ("workloads", ("digits-cnn", "gpt2-text")),
    ):
        done = weighbridge(command)
        assert done.returncode == 0
        assert max(len(line) for line in done.stdout.splitlines()) <= 80
        text = " ".join(done.stdout.replace("│", " ").split())
        assert all(word in text for word in words)


def test_the_cache_is_listed_verified_and_cleared(
    tmp_path: Path, write_behaviour: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A built artifact is listed and whole; a flipped byte is found with exit 1; clear removes it."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    fake_config(tmp_path, write_behaviour, "", latency_ms=1.0)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("build", "--out", "built").returncode == 0
    assert "fake" in run("cache", "list").stdout
    assert "2 of 2 artifacts are whole" in run("cache", "verify").stdout
    artifact = next((tmp_path / "cache" / "artifacts").glob("*/*.fake.json"))
    artifact.write_bytes(artifact.read_bytes() + b" ")
    assert run("cache", "verify").returncode == 1
    assert "2 artifacts removed" in run("cache", "clear").stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_every_child_and_keeps_what_was_finished(
    number: signal.Signals, code: int, tmp_path: Path, cache: Path, write_behaviour: Write
) -> None:
    """SIGINT and SIGTERM while weighing end with 130 and 143, no child is left, finished replicates stay readable."""
    config = fake_config(tmp_path, write_behaviour, RULE.format(0.6), latency_ms=1.9, noise=0.2, real_ms=1.0)
    environment = {**os.environ, "WEIGHBRIDGE_CACHE": str(cache)}
    # Tests that run in the background of a shell ignore SIGINT, and so would their children.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [*COMMAND[:-1], heard + COMMAND[-1], "run", str(config), "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    first = tmp_path / "run" / "samples" / "replicate-001.parquet"
    deadline = time.monotonic() + 120
    while not first.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "interrupted; `weighbridge run --resume" in " ".join(errors.split())
    # One that was just starting ends by itself, at the end of its pipe.
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    assert first.is_file()
    assert not list((tmp_path / "run").rglob("*.part"))
    if number is signal.SIGTERM:
        resumed = [*COMMAND, "run", "--resume", "run"]
        done = subprocess.run(resumed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert "report:" in done.stdout
        assert "going on with" in done.stderr


def test_doctor_measures_the_noise_floor(weighbridge: Any, tmp_path: Path) -> None:
    """A row a time with floor and smallest slowdown, the smallest above the floor, then the mean rule's false alarms."""
    done = weighbridge("doctor", "--noise", "6")
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert [row[0] for row in rows] == ["5 s", "6 s", "15 s", "60 s"]
    for row in rows:
        floor, found = (float(cell.removesuffix(" %")) for cell in row[2:4])
        assert 0 < floor <= found
    text = " ".join(done.stdout.split())
    assert re.search(r"\d+ replicates in \d+ s of sampling: p50 of the twin was [01]\.\d{4} times the model's", text)
    assert re.search(r"A rule on means that cries at 1, 3, 5 % would have cried in (\d+ %(, )?){3} of these", text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "x" * 300 + ".onnx", "--data", "test.csv"], "File name too long"),
        (["run", "model.onnx", "--data", "wide.csv"], "cannot be read as UTF-8 text"),
        (["run", "model.onnx", "--data", "cut.csv.gz"], "cannot be read as UTF-8 text"),
        (["run", "a-folder", "--data", "test.csv"], "is not a readable transformers config"),
        (["compare", "model.onnx", "model.onnx", "--out", "x" * 300], "the system refused"),
    ],
)
def test_what_the_system_or_a_library_refuses_is_exit_2_with_a_sentence(
    arguments: list[str], sentence: str, weighbridge: Any, tmp_path: Path
) -> None:
    """Names that are too long, fields and archives that no reader takes, and JSON without end give no traceback."""
    linear(tmp_path / "model.onnx")
    (tmp_path / "test.csv").write_text("a,b,c,d,label\n1,2,3,4,0\n", encoding="utf-8")
    (tmp_path / "wide.csv").write_text(f'"{"x" * 200_000}",label\n1,0\n', encoding="utf-8")
    packed = gzip.compress(bytes(range(256)) * 40)
    (tmp_path / "cut.csv.gz").write_bytes(packed[:40] + b"\xff" * 20)
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-folder" / "config.json").write_text("[" * 100_000, encoding="utf-8")
    done = weighbridge(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr
