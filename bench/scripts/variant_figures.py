"""How light MiniLM-L6 becomes and what it keeps: our variants against ONNX Runtime and PyTorch in FP32, on Banking77.

Run: python bench/scripts/variant_figures.py --data FOLDER            (FOLDER holds train.csv.gz and test.csv.gz: text, category)
     python bench/scripts/variant_figures.py --data FOLDER --plain    (our INT8 against plain `quantize_dynamic`, four shapes)

Needs the extras minilm and openvino. The first start fine-tunes MiniLM-L6 on the train set, half an hour on two cores, and keeps it in
the cache, as it does the variants; building the pruned one takes three quarters of an hour. Each table is that of an ordinary run, interleaved on
one core and scored on the whole test set: its run folder has the report.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas
from onnxruntime.quantization import quantize_dynamic
from weighbridge.bench.cli.console import ConsoleReporter
from weighbridge.bench.config import Config, parse_config
from weighbridge.bench.evidence_of_run import speed_piece
from weighbridge.bench.results import Results
from weighbridge.bench.running import Options, run
from weighbridge.bench.samples import read_replicates
from weighbridge.bench.speed import statistics
from weighbridge.bench.workloads.builtin_docstrings_minilm import WEIGHTS_SHA256, pretrained_folder
from weighbridge.bench.workloads.trained import trained
from weighbridge.optimize.build import optimize
from weighbridge.optimize.files import sha256_of_file
from weighbridge.optimize.model import Examples
from weighbridge.optimize.training import TrainingConfig, fit

LENGTH = 32
ALPHA = 0.005
EPOCHS = 5
ORT, TORCH = "onnxruntime-fp32", "torch-fp32"
RECOVERY: dict[str, Any] = {"learning_rate": 5e-4, "distil": 0.5, "temperature": 2.0}
LIGHT: list[dict[str, Any]] = [
    {"use": "structured-pruning", "ratio": 0.5, "targets": ["layers"], "recover_steps": 1500, **RECOVERY},
    {
        "use": "structured-pruning",
        "ratio": 0.4,
        "targets": ["heads", "ffn"],
        "score": "taylor",
        "recover_steps": 3000,
        **RECOVERY,
    },
]
FIRST: dict[str, Any] = {"use": "graph-optimization", "passes": ["first-position"]}
FIRST_INT8: dict[str, Any] = {
    "name": "ort-first-int8",
    "backend": "onnxruntime",
    "precision": "int8",
    "steps": [FIRST, {"use": "dynamic-int8"}],
}
VARIANTS: list[dict[str, Any]] = [
    {"backend": "onnxruntime", "precision": "fp32", "baseline": True},
    {"backend": "torch", "precision": "fp32"},
    {"backend": "torch", "precision": "int8"},
    {"backend": "onnxruntime", "precision": "int8"},
    {"backend": "openvino", "precision": "fp32"},
    {"backend": "openvino", "precision": "int8"},
    FIRST_INT8,
    {
        "name": "ort-light-int8",
        "backend": "onnxruntime",
        "precision": "int8",
        "steps": [*LIGHT, FIRST, {"use": "dynamic-int8"}],
    },
]


def fine_tuned(data: Path) -> Path:
    """MiniLM-L6 with a linear head, all of it trained on the train set; a transformers folder in the cache."""
    train = pandas.read_csv(data / "train.csv.gz")
    facts = [WEIGHTS_SHA256, sha256_of_file(data / "train.csv.gz"), EPOCHS, LENGTH]
    return trained("banking77-minilm", sys.modules[__name__], facts, lambda folder: _fine_tune(folder, train))


def _fine_tune(folder: Path, train: pandas.DataFrame) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    pretrained = pretrained_folder()
    names = sorted(train["category"].unique())
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    encoded = tokenizer(
        list(train["text"]), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
    )
    torch.manual_seed(0)
    module = BertForSequenceClassification.from_pretrained(
        pretrained,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: n for n, name in enumerate(names)},
    )
    labels = train["category"].map(names.index).to_numpy(np.int64)
    training = TrainingConfig(learning_rate=2e-4, epochs=EPOCHS, batch_size=32, weight_decay=0.01, validation_share=0.1)
    fit(
        module, dict(encoded), labels, training, lambda share, text: print(f"fine-tuning {share:.0%}, {text}", end="\r")
    )
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def config_of(
    model: Path, data: Path, variants: Sequence[dict[str, Any]], sizes: Sequence[int], lengths: Sequence[int]
) -> Config:
    """An ordinary run of a fine-tuned model on the test set, calibrated and recovered on the train set, on one core."""
    workload = {
        "name": "banking77-minilm",
        "task": "text-classification",
        "model": str(model),
        "data": str(data / "test.csv.gz"),
        "calibration": str(data / "train.csv.gz"),
        "columns": {"text": "text", "label": "category"},
    }
    measure = {"batch_sizes": list(sizes), "sequence_lengths": list(lengths), "threads": 1, "max_seconds": 240}
    return parse_config({"workload": workload, "variants": list(variants), "measure": measure}, "variant figures")


def plain_int8(folder: Path, exported: Path) -> Path:
    """What a user gets from one call of ONNX Runtime's quantizer on the exported file."""
    plain = folder / "plain-int8.onnx"
    model = onnx.load(str(exported))
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    quantize_dynamic(model, str(plain))
    return plain


def print_table(results: Results, others: Sequence[str]) -> None:
    """Each variant's size, speed against ONNX Runtime and PyTorch in FP32, and accuracy, with intervals."""
    accuracies = {(c.variant, c.kind): c for c in results.comparisons if c.metric == "accuracy"}
    plain = {m.variant: m for m in results.measurements if m.metric == "accuracy"}
    for row in results.variants:
        print(f"\n{row.name}: {row.status} {row.reason}{f', {row.bytes / 1e6:.1f} MB' if row.bytes else ''}")
        if row.name in plain:
            print(f"  accuracy {plain[row.name].value:.4f} (n = {plain[row.name].n})")
        if (row.name, "difference") in accuracies:
            change = accuracies[row.name, "difference"]
            print(f"  accuracy difference {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]")
        for other in others:
            for shape, speed in speeds_over(results, row.name, other):
                print(f"  {shape}: {speed} as fast as {other}")


def speeds_over(results: Results, variant: str, baseline: str) -> list[tuple[str, str]]:
    """How many times as fast a variant is at each shape, with its interval, from the samples of the run."""
    replicates = read_replicates(results.folder)
    shapes = {shape for each in replicates for _, shape in each.timed}
    found = []
    for statistic in statistics(shapes, "classifier", {}):
        if statistic.metric.name != "latency_p50":
            continue
        planned = len(replicates)
        piece = speed_piece(statistic, replicates, variant, baseline, planned=planned, twin_of=results.baseline.name)
        ratio = piece.interval("ratio", ALPHA, ALPHA) if piece is not None else None
        if piece is not None and ratio is not None and variant != baseline:
            shape = "x".join(
                str(piece.conditions[name]) for name in ("batch_size", "sequence_length") if name in piece.conditions
            )
            found.append((shape, f"{1 / ratio.value:.2f}x [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}]"))
    return found


def plain_against_ours(model: Path, data: Path, out: Path | None) -> Results:
    """Weigh our INT8 against the plain one at four shapes, each scored on the whole test set."""
    examples = Examples(probes=({name: np.ones((2, LENGTH), np.int64) for name in ("input_ids", "attention_mask")},))
    dense = optimize(str(model), "onnxruntime-fp32", examples=examples, task="text-classification")
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name:
        plain = plain_int8(Path(name), dense.folder / dense.manifest.files[0])
        variants: list[dict[str, Any]] = [
            {
                "name": "plain-int8",
                "artifact": str(plain),
                "backend": "onnxruntime",
                "precision": "int8",
                "baseline": True,
            },
            {"backend": "onnxruntime", "precision": "int8"},
            FIRST_INT8,
        ]
        return run(config_of(model, data, variants, (1, 8), (LENGTH, 128)), Options(out=out), ConsoleReporter())


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Banking77's train.csv.gz and test.csv.gz")
    parser.add_argument("--plain", action="store_true", help="our INT8 against plain quantize_dynamic at four shapes")
    parser.add_argument("--out", type=Path, default=None, help="run folder")
    chosen = parser.parse_args()
    model = fine_tuned(chosen.data)
    if chosen.plain:
        print_table(plain_against_ours(model, chosen.data, chosen.out), ["plain-int8"])
    else:
        config = config_of(model, chosen.data, VARIANTS, (1,), (LENGTH,))
        print_table(run(config, Options(out=chosen.out), ConsoleReporter()), [ORT, TORCH])


if __name__ == "__main__":
    main()
