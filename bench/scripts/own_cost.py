"""What Weighbridge itself costs: start of the command, a worker against a bare loop, memory of the parent, the demo.

Run: python bench/scripts/own_cost.py [--demo]     (prints one line a figure; figures depend on the machine)
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from weighbridge.bench.child import Child
from weighbridge.bench.samples import key_of
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.variant import Variant

SHAPE = {"batch_size": 8, "threads": 1}
VISITS = 200
CALLS = 10


def help_seconds() -> float:
    """Median wall time of `weighbridge --help` over ten starts."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run(["weighbridge", "--help"], stdout=subprocess.DEVNULL, check=True)  # noqa: S607 - the installed command
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def prepared_digits(folder: Path) -> tuple[Prepared, Path]:
    """Prepare the built-in digits workload and build its ORT FP32 variant, as a run does."""
    prepared = folder / "prepared"
    config = {"workload": {"name": "digits", "builtin": "digits-cnn"}}
    with Child("prepare", threads=2) as child:
        child.call("prepare", {"config": config, "folder": str(prepared), "base": "."}, timeout=600)
    arguments = {
        "prepared": str(prepared),
        "backend": "onnxruntime",
        "precision": "fp32",
        "steps": [],
        "artifact": None,
    }
    with Child("build", threads=2) as child:
        answer = child.call("build", arguments, timeout=600)
    return Prepared.read(prepared), Path(answer["folder"])


def worker_against_bare_loop(prepared: Prepared, folder: Path) -> tuple[float, float, float]:
    """Median call of a worker and of a bare loop around the same session, interleaved; and their ratio's spread."""
    predictor = Variant.read(folder).open(OpenOptions(threads=1))
    arrays = prepared.arrays("evaluation", 0)
    inputs = [
        predictor.load({name: np.ascontiguousarray(array[:8]) for name, array in arrays.items()}) for _ in range(8)
    ]  # type: ignore[union-attr]
    bare: list[float] = []
    ours: list[float] = []
    key = key_of(SHAPE)
    with Child("worker", threads=1) as child:
        child.call("open", {"variant": str(folder), "threads": 1, "provider": None}, timeout=60)
        child.call("shape", {"key": key, "prepared": str(prepared.folder), "conditions": SHAPE}, timeout=60)
        child.call("warm", {"key": key}, timeout=60)
        for visit in range(VISITS):
            ours.append(float(np.median(_worker_visit(child, key, visit))))
            bare.append(float(np.median(_bare_visit(predictor, inputs))))
    log_ratios = np.log(np.array(ours) / np.array(bare))
    return float(np.median(ours)), float(np.median(bare)), float(np.median(log_ratios))


def _worker_visit(child: Child, key: str, visit: int) -> list[float]:
    calls = child.call("visit", {"key": key, "start": visit, "calls": CALLS + 3}, timeout=60)["calls"]
    return [sum(call) for call in calls[3:]]


def _bare_visit(predictor: object, inputs: list[object]) -> list[float]:
    times = []
    for index in range(CALLS + 3):
        start = time.perf_counter_ns()
        predictor.infer(inputs[index % len(inputs)])  # type: ignore[attr-defined]
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times[3:]


def demo_seconds(cache: str | None) -> float:
    """Wall time of the demonstration."""
    import os

    environment = {**os.environ, **({"WEIGHBRIDGE_CACHE": cache} if cache else {})}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(["weighbridge", "demo", "--out", f"{folder}/demo"], check=True, env=environment)  # noqa: S607 - the installed command
        return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="also time the demo, cold and from cache (minutes)")
    options = parser.parse_args()
    print(f"weighbridge --help: {help_seconds():.2f} s (median of 10)")
    with tempfile.TemporaryDirectory() as name:
        ours, bare, ratio = worker_against_bare_loop(*prepared_digits(Path(name)))
    print(f"worker p50 {ours:.4f} ms, bare loop {bare:.4f} ms, ratio {np.exp(ratio):.4f} ({VISITS} interleaved visits)")
    with tempfile.TemporaryDirectory() as cache:
        config = "[workload]\nname = 'digits'\nbuiltin = 'digits-cnn'\n[measure]\nmax_seconds = 5\n"
        path = Path(cache) / "weighbridge.toml"
        path.write_text(config, encoding="utf-8")
        command = [sys.executable, "-c", _MEASURED_RUN, str(path), f"{cache}/run"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"parent of a run, report included: {done.stdout.splitlines()[-1]} MB at its peak")
        if options.demo:
            print(f"demo, cold: {demo_seconds(cache):.0f} s; from cache: {demo_seconds(cache):.0f} s")


_MEASURED_RUN = """
import sys
from weighbridge.bench.cli import main
from weighbridge.bench.worker import peak_resident_bytes
sys.argv = ["weighbridge", "run", sys.argv[1], "--out", sys.argv[2]]
try:
    main.main()
except SystemExit:
    print(peak_resident_bytes() // 2**20)
"""

if __name__ == "__main__":
    main()
