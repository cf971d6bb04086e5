"""What users bring, for fuzz.py to damage: sound files of every kind, and the part of Weighbridge that reads each."""

import contextlib
import gzip
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from weighbridge.optimize.errors import WeighbridgeError

CONFIG = """
[workload]
name = "intents"
task = "text-classification"
model = "checkpoints/intents"
data = "test.csv"
calibration = "train.csv"
columns = { text = "text", label = "category", slices = ["language"] }
preprocess = { mean = [0.1307], std = [0.3081] }
max_examples = 1000
seed = 0

[[variants]]
name = "torch-fp32"
backend = "torch"
precision = "fp32"
baseline = true

[[variants]]
name = "ort-int8-slim"
backend = "onnxruntime"
precision = "int8"
steps = [
  { use = "structured-pruning", ratio = 0.3, recover_steps = 200 },
  { use = "static-int8", calibration = "entropy", samples = 256 },
]

[measure]
batch_sizes = [1, 8]
sequence_lengths = [32]
rates = [20.0, 50.0]
latency_limit = { latency_p95 = 20.0 }
threads = 1
max_seconds = 60.0
error_rate = 0.01

[gates]
preset = "no-regression"
required = ["ort-int8-slim"]

[[gates.rules]]
metric = "latency_p50"
compare = "ratio"
max = 0.6
variants = ["ort-int8-slim"]
conditions = { batch_size = 1 }

[[gates.rules]]
metric = "accuracy"
compare = "difference"
min = -0.01
slice = "language"
"""
RULES = CONFIG[CONFIG.index("[gates]") :]
ROWS = 12
_TABLE = 2
"""Axes of a table; more are images."""


@dataclass(frozen=True)
class Target:
    """A kind of file: `write` makes sound ones in a folder, `take` gives (folder, damaged file) to what reads them.

    Attributes:
        name: what they are.
        write: makes them.
        take: raises an error of ours where it refuses them.
        pattern: which of them are damaged.
        weight: its share of the cases.
    """

    name: str
    write: Callable[[Path], None]
    take: Callable[[Path, Path], object]
    pattern: str = "*"
    weight: int = 1


def all_read(*readers: Callable[[], object]) -> None:
    """Let each read; the first refusal is told when all have had their turn."""
    refused: list[WeighbridgeError] = []
    for reader in readers:
        try:
            reader()
        except WeighbridgeError as error:
            refused.append(error)
    if refused:
        raise refused[0]


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Have charts made, but not drawn, which would take a second a page."""
    from weighbridge.optimize.errors import WorkerError
    from weighbridge.reports.svg import Drawing

    with (
        mock.patch.object(Drawing, "__init__", return_value=None),
        mock.patch.object(Drawing, "draw", side_effect=WorkerError("charts are not drawn here")),
        mock.patch.object(Drawing, "close"),
    ):
        yield


def _write_config(folder: Path) -> None:
    (folder / "weighbridge.toml").write_text(CONFIG, encoding="utf-8")
    tables = CONFIG.replace("[[", "[[tool.weighbridge.").replace("\n[", "\n[tool.weighbridge.")
    tables = tables.replace("[tool.weighbridge.[", "[[").replace("[tool.weighbridge.tool", "[tool")
    (folder / "pyproject.toml").write_text(tables, encoding="utf-8")


def _take_config(folder: Path, path: Path) -> None:
    from weighbridge.bench.cli.planning import print_plan
    from weighbridge.bench.config import load_config
    from weighbridge.bench.running import Options, new_run_folder

    config = load_config(path)
    print_plan(config, Options(base=folder))
    new_run_folder(None, config.workload.name).exists()


def _write_rules(folder: Path) -> None:
    (folder / "rules.toml").write_text(RULES, encoding="utf-8")


def _take_rules(folder: Path, path: Path) -> None:
    from weighbridge.bench.rules import rules_of
    from weighbridge.bench.rules_file import read_rules

    del folder
    gates = read_rules(path)
    all_read(lambda: rules_of(gates, "classifier"), lambda: rules_of(gates, "decoder"))


def _write_tables(folder: Path) -> None:
    import pandas

    texts = pandas.DataFrame(
        {
            "text": [f"what is {row}, and \u00e9t\u00e9?" for row in range(ROWS)],
            "label": ["a", "b", "c"] * (ROWS // 3),
            "language": ["de", "fr"] * (ROWS // 2),
            "reference": ["so it is"] * ROWS,
        }
    )
    numbers = pandas.DataFrame({"a": np.arange(ROWS) / 4, "b": 1.0, "c": 2, "d": 0.5, "label": [0, 1, 2] * (ROWS // 3)})
    for name, table in (("texts", texts), ("numbers", numbers)):
        table.to_csv(folder / f"{name}.csv", index=False)
        table.to_csv(folder / f"{name}.tsv", index=False, sep="\t")
        table.to_json(folder / f"{name}.jsonl", orient="records", lines=True)
        table.to_parquet(folder / f"{name}.parquet")
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress((folder / f"{name}.csv").read_bytes()))


def _take_table(folder: Path, path: Path) -> None:
    from weighbridge.bench.cli.guess import columns_of
    from weighbridge.bench.config import Columns
    from weighbridge.bench.workloads.data import read_prompts, read_texts, read_values

    del folder
    if path.name.startswith("numbers"):
        all_read(lambda: columns_of(path), lambda: _classified(read_values(path, Columns(slices=("c",)))))
        return
    columns = Columns(slices=("language",), reference="reference")
    all_read(
        lambda: columns_of(path),
        lambda: _classified(read_texts(path, columns)),
        lambda: read_prompts(path, columns),
    )


def _classified(rows: Any) -> None:
    """What is done with rows before a model is asked."""
    from weighbridge.bench.config import Preprocess
    from weighbridge.bench.workloads.encode import images, numbers
    from weighbridge.bench.workloads.labels import class_names_of, encode
    from weighbridge.optimize.model import TensorSpec

    if rows.labels is not None:
        encode(rows.labels, class_names_of(rows.labels, None, None))
    array = rows.values  # noqa: PD011 - no frame
    if array is not None and array.ndim > _TABLE:
        images(array, Preprocess(), TensorSpec("x", "float32", ("batch", 1, 4, 4)))
    elif array is not None:
        numbers(array, TensorSpec("x", "float32", ("batch", 4)))


def _write_arrays(folder: Path) -> None:
    pixels = np.arange(ROWS * 16, dtype=np.uint8).reshape(ROWS, 4, 4)
    labels = np.arange(ROWS, dtype=np.uint8) % 3
    for name, array in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)):
        content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    np.savez(folder / "images.npz", x=pixels, y=labels)
    np.savez_compressed(folder / "packed.npz", x=pixels, y=labels)
    (folder / "labels.txt").write_text("cat\ndog\n" * (ROWS // 2), encoding="utf-8")


def _take_arrays(folder: Path, path: Path) -> None:
    from weighbridge.bench.workloads.data import read_images, read_labels, read_text

    del folder
    if "labels" in path.name:
        read_labels(path)
    elif path.suffix == ".txt":
        read_text(path)
    else:
        _classified(read_images(path))


def _write_onnx(folder: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0).standard_normal
    weights = [
        numpy_helper.from_array(draw(size).astype(np.float32), name) for name, size in (("w", (4, 8)), ("v", (8, 3)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 4), ("y", 3))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "whole.onnx"))
    onnx.save(model, str(folder / "apart.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)


def _take_onnx(folder: Path, path: Path) -> None:
    from weighbridge.bench.config import MeasureConfig, WorkloadConfig
    from weighbridge.bench.reporter import ignore
    from weighbridge.bench.workloads.base import rows
    from weighbridge.bench.workloads.prepare import prepare
    from weighbridge.optimize.build import adopt
    from weighbridge.optimize.cache import ArtifactCache
    from weighbridge.optimize.model import Examples

    config = WorkloadConfig(name="w", task="tabular-classification", model=path.name)
    prepared = prepare(config, MeasureConfig(), folder / "prepared", ignore, base=folder)
    probe = rows(prepared.arrays("evaluation", prepared.lengths[0]), 0, prepared.fixed_batch or 2)
    adopt(path, "onnxruntime", None, examples=Examples((probe,)), cache=ArtifactCache(folder / "cache"))


def _write_checkpoint(folder: Path) -> None:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
    from weighbridge.optimize.quiet import quiet

    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(
        ["the cat sat on the mat"] * 4, vocab_size=280, special_tokens=["<end>"], show_progress=False
    )
    tokenizer = GPT2TokenizerFast(tokenizer_object=learnt._tokenizer, eos_token="<end>", bos_token="<end>")  # noqa: S106, SLF001 - the library's own way; a word, no secret
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    with quiet():
        config = GPT2Config(
            n_embd=16, n_layer=1, n_head=2, n_positions=64, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0
        )
        GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "text.txt").write_text("the cat sat on the mat " * 60, encoding="utf-8")


def _take_checkpoint(folder: Path, path: Path) -> None:
    from weighbridge.bench.config import MeasureConfig, WorkloadConfig
    from weighbridge.bench.reporter import ignore
    from weighbridge.bench.workloads.prepare import prepare
    from weighbridge.optimize.loading import load

    del path
    config = WorkloadConfig(name="w", task="text-generation", model=str(folder), data="text.txt", window=16)
    measure = MeasureConfig(prompt_lengths=(4,), max_new_tokens=4)
    load(prepare(config, measure, folder / "prepared", ignore, base=folder).source)


def _write_benchmarks(folder: Path) -> None:
    stats = {
        "min": 1e-3,
        "max": 3e-3,
        "mean": 2e-3,
        "stddev": 1e-4,
        "median": 2e-3,
        "iqr": 1e-4,
        "rounds": 3,
        "iterations": 1,
    }
    rows = [
        {
            "name": f"test_{name}",
            "group": group,
            "params": None,
            "extra_info": {},
            "stats": {**stats, "data": [1e-3, 2e-3, 3e-3]},
        }
        for name, group in (("a", "g"), ("b", "g"), ("c", None))
    ]
    about = {
        "machine_info": {"machine": "x86_64", "system": "Linux", "cpu": {"brand_raw": "CPU", "count": 2}},
        "commit_info": {"id": "8f3c2d1a9b7e", "project": "theirs", "dirty": False},
        "datetime": "2026-11-24T14:10:00+00:00",
        "version": "5.3.1",
    }
    (folder / "saved.json").write_text(json.dumps({**about, "benchmarks": rows}), encoding="utf-8")


def _take_benchmarks(folder: Path, path: Path) -> None:
    from weighbridge.reports import render_benchmarks

    for name in ("md", "csv", "json", "html"):
        with undrawn():
            render_benchmarks([path], folder / f"out.{name}", name)


TARGETS = (
    Target("config", _write_config, _take_config, weight=4),
    Target("rules", _write_rules, _take_rules),
    Target("tables", _write_tables, _take_table, weight=4),
    Target("arrays", _write_arrays, _take_arrays, weight=2),
    Target("onnx", _write_onnx, _take_onnx, "*.onnx", weight=4),
    Target("checkpoint", _write_checkpoint, _take_checkpoint),
    Target("benchmarks", _write_benchmarks, _take_benchmarks),
)
