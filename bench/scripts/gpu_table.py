"""What PyTorch, ONNX Runtime and TensorRT take on an NVIDIA GPU, for one BERT of the size of MiniLM-L6: the table of docs/gpu.md.

Run: python bench/scripts/gpu_table.py > table.md        (on a machine with a GPU; some minutes, most of them TensorRT's)
     python bench/scripts/gpu_table.py --only torch      (the rows whose name begins so)

Needs torch with CUDA; onnxruntime-gpu and the extra tensorrt for their rows; the extra torchao for torch's INT8. Nothing is downloaded:
the weights are drawn, for speed does not depend on them. Each row is built, checked against the FP32 model, opened and timed in a process
of its own; a row that cannot be had says why. These are times of one process after another and no verdict: for that, weigh.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from weighbridge.optimize.artifact import installed
from weighbridge.optimize.backends import backend
from weighbridge.optimize.backends.base import OnDevice, OpenOptions
from weighbridge.optimize.build import optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import WeighbridgeError
from weighbridge.optimize.model import Batch, Examples
from weighbridge.optimize.nvml import gpus
from weighbridge.optimize.quiet import quiet
from weighbridge.optimize.recipe import Recipe

BATCHES = (1, 8, 32)
LENGTH = 128
CALLS = 200
WARM_CALLS = 20
ROW_SECONDS = 240
PRUNED = {"use": "magnitude-pruning", "pattern": "2:4"}
HALF = {"use": "half-precision", "dtype": "fp16"}
ROWS: dict[str, dict[str, Any]] = {
    "torch-fp32": {"backend": "torch", "precision": "fp32"},
    "torch-bf16": {"backend": "torch", "precision": "bf16"},
    "torch-fp16": {"backend": "torch", "precision": "fp16"},
    "torch-fp16-2:4": {"backend": "torch", "precision": "fp16", "steps": [PRUNED, HALF]},
    "torch-int8": {"backend": "torch", "precision": "int8", "steps": [{"use": "torchao-int8"}]},
    "ort-cuda-fp32": {"backend": "onnxruntime", "precision": "fp32"},
    "ort-cuda-fp16": {"backend": "onnxruntime", "precision": "fp16"},
    "ort-tensorrt-fp32": {"backend": "onnxruntime", "precision": "fp32", "provider": "tensorrt"},
    "ort-tensorrt-fp16": {"backend": "onnxruntime", "precision": "fp16", "provider": "tensorrt"},
    "tensorrt-fp32": {"backend": "tensorrt", "precision": "fp32"},
    "tensorrt-fp16": {"backend": "tensorrt", "precision": "fp16"},
    "tensorrt-fp16-graph": {
        "backend": "tensorrt",
        "precision": "fp16",
        "steps": [{"use": "onnx-half-precision"}, {"use": "tensorrt-engine", "cuda_graph": True}],
    },
    "tensorrt-int8": {"backend": "tensorrt", "precision": "int8"},
}
PACKAGES = ("torch", "onnxruntime-gpu", "tensorrt", "torchao")


def main() -> None:
    """Print the table; or, in a row's own process, the row as JSON."""
    arguments = argparse.ArgumentParser(description="What models take on an NVIDIA GPU.")
    arguments.add_argument("--only", default="", help="the rows whose name begins so")
    arguments.add_argument("--row", help=argparse.SUPPRESS)
    arguments.add_argument("--model", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.row:
        print(json.dumps(row(ROWS[given.row], given.model)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        rows = {name: in_child(name, folder) for name in ROWS if name.startswith(given.only)}
    print(table(rows, heading()))


def make_model(folder: Path) -> None:
    """Save a BERT classifier with the sizes of MiniLM-L6 and drawn weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    with quiet():
        BertForSequenceClassification(BertConfig(num_labels=8, **sizes)).save_pretrained(folder)


def in_child(name: str, model: str) -> dict[str, Any]:
    """A row from a process of its own; what it died of where it did not answer."""
    command = [sys.executable, "-P", __file__, "--row", name, "--model", model]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ROW_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"reason": f"no answer in {ROW_SECONDS} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = done.stderr.strip().splitlines()
        return {"reason": f"its process ended with status {done.returncode}: {last[-1][:200] if last else 'no word'}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def batch(size: int) -> Batch:
    """Token ids without padding."""
    ids = np.random.default_rng(size).integers(1000, 20000, (size, LENGTH))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def row(wanted: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Build, open and time one variant: `agreement`, and of each batch size `times`; or the `reason` why not."""
    wanted = dict(wanted)
    provider = wanted.pop("provider", "cuda")
    available = backend(wanted["backend"]).availability(provider)
    if not available.usable:
        return {"reason": available.reason}
    probes = tuple(batch(size) for size in BATCHES)
    examples = Examples(probes, calibration=probes, calibration_sha256="0" * 64, batch_sizes=BATCHES)
    try:
        variant = optimize(model, Recipe.from_dict(wanted), examples=examples, cache=ArtifactCache())
        opened = variant.open(OpenOptions(provider=provider))
        times = {str(size): timed(opened, batch(size)) for size in BATCHES}
    except WeighbridgeError as error:
        return {"reason": str(error)}
    parity = variant.manifest.parity
    return {"times": times, "agreement": parity.agreement if parity else None}


def timed(opened: Any, inputs: Batch) -> dict[str, float]:
    """The median call by the host's clock, and what the device tells where it has a clock of its own; in ms."""
    loaded = opened.load(inputs)
    for _ in range(WARM_CALLS):
        opened.infer(loaded)
    host = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        opened.infer(loaded)
        host.append((time.perf_counter_ns() - start) / 1e6)
    told = asdict(opened.device_times(loaded, CALLS)) if isinstance(opened, OnDevice) else {}
    return {**told, "host_ms": statistics.median(host)}


def heading() -> str:
    """Date, GPU, driver and the versions of what is compared."""
    try:
        gpu = ", ".join(f"{each.name}, driver {each.driver}" for each in gpus())
    except WeighbridgeError as error:
        gpu = f"no GPU is known ({error})"
    versions = ", ".join(f"{name} {version}" for name, version in installed(PACKAGES).items())
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {gpu}; {versions}. Sequence length {LENGTH}, milliseconds a call."


def table(rows: Mapping[str, Mapping[str, Any]], head: str) -> str:
    """The rows in Markdown: of each batch size the host's time and, behind a slash, the device's; then copies and agreement."""
    names = ["variant", *(f"batch {size}" for size in BATCHES), f"copies in + out, batch {BATCHES[-1]}", "agreement"]
    lines = [head, "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(name, each))} |" for name, each in rows.items())])


def cells(name: str, found: Mapping[str, Any]) -> list[str]:
    """The cells of a row; where it could not be had, the reason instead of numbers."""
    if "reason" in found:
        return [name, f"not run: {found['reason']}", *[""] * (len(BATCHES) + 1)]
    times = [found["times"][str(size)] for size in BATCHES]
    largest = times[-1]
    copies = f"{largest['copy_in_ms']:.3f} + {largest['copy_out_ms']:.3f}" if "copy_in_ms" in largest else "-"
    agreement = "-" if found["agreement"] is None else f"{found['agreement']:.1%}"
    return [name, *map(_time, times), copies, agreement]


def _time(times: Mapping[str, float]) -> str:
    device = f" / {times['device_ms']:.3f}" if "device_ms" in times else ""
    return f"{times['host_ms']:.3f}{device}"


if __name__ == "__main__":
    main()
