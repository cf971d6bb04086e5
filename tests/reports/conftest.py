"""Two realistic runs written as raw files with known truth, and their results derived as every run's are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.config import parse_config, to_toml
from weighbridge.bench.derive import derive
from weighbridge.bench.generated import Generations, write_generations
from weighbridge.bench.journal import Journal
from weighbridge.bench.predictions import ClassPredictions, WindowScores, write_class_predictions, write_window_scores
from weighbridge.bench.results import Comparison, Gate, Measurement, Results, VariantRow, write_results
from weighbridge.bench.samples import CONTROL, Recorder, key_of
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.files import write_json, write_text
from weighbridge.optimize.model import Signature, TensorSpec
from weighbridge.optimize.variant import Manifest, Parity, StepRecord

CLASSES = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "standard library")
EXAMPLES = 3000
SOURCES = ("tutorial", "reference", "<b>forum</b>")
HOSTILE = "<script>alert('x')</script> & =1+1 | `pipe` @team"

ENVIRONMENT = {
    "date": "2026-11-24T14:10:00+00:00",
    "commit": "8f3c2d1a9b7e",
    "machine": "Intel(R) Xeon(R) Processor @ 2.70GHz x2 x86_64 24 GiB",
    "system": "Linux 6.1.0",
    "architecture": "x86_64",
    "python": "3.11.2",
    "cpu": "Intel(R) Xeon(R) Processor @ 2.70GHz",
    "cores": 2,
    "instruction_sets": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"],
    "memory_bytes": 25_281_000_000,
    "governor": "",
    "load_average": 0.31,
    "versions": {"weighbridge": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.31.1", "numpy": "2.4.6"},
}


@dataclass(frozen=True)
class Known:
    """The truth about one variant: milliseconds at batch 1, share of the baseline's answers kept, bytes."""

    backend: str
    precision: str
    ms: float = 1.0
    kept: float = 1.0
    bytes: int = 90_868_376
    status: str = "ok"
    reason: str = ""
    note: str = ""
    nodes: dict[str, int] = field(default_factory=lambda: {"MatMul": 73, "Add": 61, "LayerNormalization": 13})


CLASSIFIER = {
    "torch-fp32": Known("torch", "fp32", 12.0),
    "torch-bf16": Known("torch", "bf16", 5.8, 0.99, 45_501_000),
    "ort-fp32": Known("onnxruntime", "fp32", 5.9, 1.0, 90_960_112),
    "ort-int8": Known(
        "onnxruntime",
        "int8",
        2.6,
        0.998,
        22_900_431,
        nodes={"MatMulInteger": 36, "DynamicQuantizeLinear": 24, "Add": 61},
    ),
    "ort-int8-static": Known(
        "onnxruntime",
        "int8",
        2.9,
        0.93,
        23_100_200,
        nodes={"QuantizeLinear": 80, "DequantizeLinear": 152, "MatMul": 36},
    ),
    "ort-fp16": Known(
        "onnxruntime",
        "fp16",
        12.15,
        1.0,
        45_620_990,
        note="no gain expected here: this processor has no FP16 arithmetic",
    ),
    "ort-pruned": Known(
        "onnxruntime",
        "fp32",
        0.31,
        0.9995,
        90_960_112,
        note="no gain expected here: dense kernels multiply the zeros too",
    ),
    "tensorrt-fp16": Known(
        "tensorrt",
        "fp16",
        status="unavailable",
        reason="tensorrt is not installed; pip install tensorrt --extra-index-url https://pypi.nvidia.com",
    ),
    "ort-int4": Known(
        "onnxruntime",
        "int4",
        status="failed",
        reason="agreement with the baseline 0.21, below the floor of 0.50: outputs are broken",
    ),
}
GENERATOR = {
    "torch-fp32": Known("torch", "fp32", 6.3, 0.0, 94_800_000),
    "torch-bf16": Known("torch", "bf16", 4.4, 0.001, 47_410_000),
    "ort-fp32": Known("onnxruntime", "fp32", 4.1, 0.0, 95_020_000),
    "ort-int8": Known("onnxruntime", "int8", 1.9, 0.006, 24_300_000),
}
RULES = {
    "preset": "no-regression",
    "rules": [{"metric": "latency_p50", "compare": "ratio", "max": 0.6, "variants": ["ort-int8"]}],
}


def _config(
    name: str, task: str, known: dict[str, Known], gates: dict[str, object], batch_sizes: list[int]
) -> dict[str, object]:
    variants = [
        {"name": each, "backend": truth.backend, "precision": truth.precision, "baseline": each == "torch-fp32"}
        for each, truth in known.items()
    ]
    return {
        "workload": {"name": name, "task": task, "model": "checkpoints/model", "data": "test.csv"},
        "variants": variants,
        "measure": {"batch_sizes": batch_sizes, "max_new_tokens": 9},
        "gates": gates,
    }


def _manifest(truth: Known) -> Manifest:
    parity = Parity(2.4e-4, 3.1e-4, 0.99997, 0.998, ("1x32", "2x7"))
    quantized = {"int8": truth.bytes - 600_000, "fp32": 600_000}
    return Manifest(
        backend=truth.backend,
        precision=truth.precision,
        recipe={"backend": truth.backend, "precision": truth.precision, "steps": []},
        source={},
        calibration_sha256=None,
        tools={"onnx": "1.23.2"},
        files=("model.onnx",),
        sha256={"model.onnx": f"{truth.bytes:064x}"},
        bytes=truth.bytes,
        parameters=22_713_216,
        sparsity=0.5 if truth.note.startswith("no gain expected here: dense") else 0.0,
        build_seconds=truth.ms * 1.7,
        signature=Signature("classifier", (TensorSpec("input_ids", "int64", ("batch", "sequence")),), ("logits",)),
        steps=(
            StepRecord({"use": "fuse"}, "rolled-back", "the fused graph is not valid: node 17 has no type", {}, None),
            StepRecord({"use": "dynamic-int8"}, "applied", "", {"nodes_replaced": 36}, parity),
        )
        if truth.precision == "int8"
        else (),
        parity=parity,
        audit=Audit(
            ok=True,
            nodes=truth.nodes,
            weight_bytes=quantized if truth.precision == "int8" else {truth.precision: truth.bytes},
            parameters=22_713_216,
            providers=("CPUExecutionProvider",),
        ),
        note=truth.note,
    )


def _write_raw(folder: Path, config: dict[str, object], known: dict[str, Known], kind: str) -> list[str]:
    """Write everything but samples and predictions; return the names of the variants that were weighed."""
    write_text(folder / "config.toml", to_toml(parse_config(config, "test")))
    write_json(folder / "environment.json", ENVIRONMENT)
    journal = Journal(folder)
    notices = ["Other work loads this machine (load average 1.3 on 2 cores): stop it or wait."]
    journal.write(
        "prepared",
        kind=kind,
        class_names=list(CLASSES),
        examples=EXAMPLES,
        drawn=False,
        source_sha256="a" * 64,
        data_sha256="b" * 64,
        notices=notices,
    )
    for name, truth in known.items():
        journal.write(
            "built", variant=name, status=truth.status, reason=truth.reason, note=truth.note, from_cache=False
        )
        if truth.status == "ok":
            write_json(folder / "variants" / name / "manifest.json", _manifest(truth).to_dict())
    weighed = [name for name, truth in known.items() if truth.status == "ok"]
    journal.write(
        "plan",
        seconds_per_replicate=2.1,
        replicates=8,
        max_seconds=30,
        sentence="8 replicates of 12 rounds, about 17 s.",
    )
    for number in range(8):
        workers = {
            name: {"peak_bytes": 180e6 + 2 * known.get(name, known["torch-fp32"]).bytes, "load_ms": 80.0}
            for name in (*weighed, CONTROL)
        }
        journal.write("replicate", number=number, failed={}, workers=workers)
    return weighed


def _classifier_samples(
    folder: Path, known: dict[str, Known], weighed: list[str], shapes: list[dict[str, int]]
) -> None:
    draw = np.random.default_rng(7)
    for replicate in range(8):
        recorder = Recorder(replicate)
        for name in (*weighed, CONTROL):
            placement = draw.normal(0, 0.0035)
            for shape in shapes:
                scale = known.get(name, known["torch-fp32"]).ms * (
                    1 if shape["batch_size"] == 1 else 5.3 if name != "torch-bf16" else 2.8
                )
                key = key_of(shape)
                recorder.add([[scale * 9]], ["first"], variant=name, shape=key, round_=0, visit=0)
                for round_ in range(12):
                    level = scale * np.exp(placement + draw.normal(0, 0.01))
                    times = level * (1 + 0.04 * draw.gamma(1.3, 1.0, 13))
                    phases = ["settle"] * 3 + ["timed"] * 10
                    recorder.add(
                        [[float(each)] for each in times], phases, variant=name, shape=key, round_=round_, visit=round_
                    )
        recorder.write(folder)


def _generator_samples(folder: Path, known: dict[str, Known], weighed: list[str], shape: dict[str, int]) -> None:
    draw = np.random.default_rng(8)
    for replicate in range(6):
        recorder = Recorder(replicate)
        for name in (*weighed, CONTROL):
            level = known.get(name, known["torch-fp32"]).ms * np.exp(draw.normal(0, 0.004))
            for round_ in range(10):
                requests = [
                    [3.1 * level * each[0], *(level * each[1:])]
                    for each in 1 + 0.05 * draw.gamma(1.2, 1.0, (2, shape["max_new_tokens"]))
                ]
                rows = [[float(part) for part in each] for each in requests]
                recorder.add(rows, ["settle", "timed"], variant=name, shape=key_of(shape), round_=round_, visit=round_)
        recorder.write(folder)


def _class_answers(folder: Path, known: dict[str, Known], weighed: list[str]) -> None:
    draw, certainty = np.random.default_rng(9), np.random.default_rng(11)
    labels = draw.integers(0, len(CLASSES), EXAMPLES)
    base = np.where(draw.random(EXAMPLES) < 0.86, labels, (labels + 1) % len(CLASSES))
    texts = tuple(
        HOSTILE if index % 5 == 0 else f"Return the eigenvalues of a square array, case {index}."
        for index in range(EXAMPLES)
    )
    sources = tuple(SOURCES[index % len(SOURCES)] for index in range(EXAMPLES))
    answers = {}
    for name in weighed:
        predicted = np.where(draw.random(EXAMPLES) < known[name].kept, base, (base + 2) % len(CLASSES))
        sure = certainty.uniform(0.5, 1.0, (EXAMPLES, 1))
        scores = np.where(np.eye(len(CLASSES))[predicted] == 1, sure, (1 - sure) / (len(CLASSES) - 1))
        answers[name] = ClassPredictions(labels, predicted, scores.astype(np.float32), texts, {"source": sources})
    write_class_predictions(folder, answers)


def _window_answers(folder: Path, known: dict[str, Known], weighed: list[str]) -> None:
    draw = np.random.default_rng(10)
    tokens = np.full(120, 63.0)
    base = tokens * draw.normal(3.1, 0.25, 120)
    scores = {
        name: WindowScores(
            base + tokens * (known[name].kept + draw.normal(0, 0.002, 120) * (known[name].kept > 0)),
            tokens,
            4 * tokens,
            None if name == "torch-fp32" else tuple(draw.exponential(0.01 + known[name].kept, (120, 2))),
        )
        for name in weighed
    }
    write_window_scores(folder, scores)


def _text_answers(folder: Path, known: dict[str, Known], weighed: list[str]) -> None:
    """Answers of eight tokens to 24 prompts; a candidate off the baseline goes astray in every third, once at a near tie."""
    answers = {}
    for name in weighed:
        astray = known[name].kept > 0
        ends = [[9, 9] if astray and number % 3 == 0 else [1, 2] for number in range(24)]
        texts = [
            f"the <b>bold</b> answer {number} {'strays' if 9 in end else 'stays'}" for number, end in enumerate(ends)
        ]
        answers[name] = Generations(
            prompts=(HOSTILE,) * 24,
            references=("the bold answer stays",) * 24,
            tokens=tuple(np.array([3, 4, 5, 6, 7, 8, *end], dtype=np.int64) for end in ends),
            margins=tuple(np.full(8, 5e-5 if number == 0 else 0.4, np.float32) for number in range(24)),
            texts=tuple(texts),
            most=8,
        )
    write_generations(folder, answers)


def write_classifier_run(folder: Path) -> Path:
    """Write the run of the nine classifier variants at two batch sizes."""
    config = _config("docstrings", "text-classification", CLASSIFIER, RULES, [1, 8])
    weighed = _write_raw(folder, config, CLASSIFIER, "classifier")
    shapes = [{"batch_size": size, "sequence_length": 32, "threads": 1} for size in (1, 8)]
    _classifier_samples(folder, CLASSIFIER, weighed, shapes)
    _class_answers(folder, CLASSIFIER, weighed)
    write_results(derive(folder), folder)
    return folder


def write_generator_run(folder: Path) -> Path:
    """Write the run of the four generator variants."""
    config = _config("gpt2-text", "text-generation", GENERATOR, {"preset": "no-regression"}, [1])
    weighed = _write_raw(folder, config, GENERATOR, "decoder")
    _generator_samples(
        folder, GENERATOR, weighed, {"batch_size": 1, "prompt_length": 32, "max_new_tokens": 9, "threads": 1}
    )
    _window_answers(folder, GENERATOR, weighed)
    _text_answers(folder, GENERATOR, weighed)
    write_results(derive(folder), folder)
    return folder


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of nine classifier variants: failed, unavailable, undecided and suspicious ones among them."""
    return write_classifier_run(tmp_path_factory.mktemp("runs") / "docstrings")


@pytest.fixture(scope="session")
def generator_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of four generator variants."""
    return write_generator_run(tmp_path_factory.mktemp("runs") / "gpt2")


SHAPE = {"batch_size": 1, "threads": 1}


@dataclass(frozen=True)
class Candidate:
    """A candidate in hand-made results: speed ratio with its bounds, accuracy difference with its bounds, verdicts."""

    name: str
    ratio: tuple[float, float, float] = (0.5, 0.4, 0.6)
    accuracy: tuple[float, float, float] = (0.0, -0.005, 0.005)
    verdicts: tuple[str, ...] = ("pass", "pass")
    suspicious: bool = False
    status: str = "ok"
    bytes: int = 1_000_000


def make_results(*candidates: Candidate, exit_code: int = 0, notices: tuple[str, ...] = (), **baseline: Any) -> Results:
    """Results of a baseline of 4 MB and 10 ms and these candidates, judged on latency and accuracy at one shape."""
    rows = [VariantRow("base", "torch", "fp32", baseline.get("status", "ok"), baseline=True, bytes=4_000_000)]
    measurements = [
        Measurement("base", "latency_p50", "ms", SHAPE, 10.0, 9.8, 10.2, 400),
        Measurement("base", "accuracy", "1", {}, 0.9, 0.88, 0.92, 1000, 0.0095),
    ]
    comparisons, gates = [], []
    for each in candidates:
        reason = "" if each.status == "ok" else "its reason"
        rows.append(VariantRow(each.name, "onnxruntime", "int8", each.status, reason=reason, bytes=each.bytes))
        if each.status != "ok":
            continue
        speed, quality = (each.name, "latency_p50", SHAPE), (each.name, "accuracy", {})
        measurements.append(Measurement(*speed[:2], "ms", SHAPE, 10 * each.ratio[0], n=400))
        measurements.append(Measurement(*quality[:2], "1", {}, 0.9 + each.accuracy[0], n=1000))
        comparisons.append(Comparison(*speed, "ratio", *each.ratio, confidence=0.99, replicates=4))
        comparisons.append(Comparison(*quality, "difference", *each.accuracy, confidence=0.99, replicates=1000))
        limits = (("latency_p50", "ratio", {"max": 1.03}, SHAPE), ("accuracy", "difference", {"min": -0.01}, {}))
        gates += [
            Gate(*limit[:3], each.name, limit[3], verdict, f"{each.name}: {limit[0]} is {verdict}", each.suspicious)
            for limit, verdict in zip(limits, each.verdicts, strict=False)
        ]
    return Results(
        environment={"date": "2026-11-24T14:10:00+00:00", "commit": "abc", "machine": "one"},
        config={"workload": {"name": "hand-made"}},
        variants=tuple(rows),
        measurements=tuple(measurements),
        comparisons=tuple(comparisons),
        gates=tuple(gates),
        notices=notices,
        exit_code=exit_code,
    )


@pytest.fixture(scope="session")
def candidate() -> type[Candidate]:
    """A candidate of hand-made results."""
    return Candidate


@pytest.fixture(scope="session")
def results_of() -> Callable[..., Results]:
    """Make results by hand: (*candidates, exit_code, notices, status of the baseline) -> Results."""
    return make_results
