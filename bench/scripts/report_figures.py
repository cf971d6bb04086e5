"""How long a report of many variants takes to render, and what it takes of memory: 200 variants with 20 measurements each.

Run: python bench/scripts/report_figures.py [--variants 200] [--times 3]

A results.json with that many variants is written to a temporary folder, at two shapes, with ratios, differences and verdicts; a
fresh process renders its page each time. Printed: seconds of wall and of processor time, the peaks of the process and of the child
that draws, the bytes of the page.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from weighbridge.bench.results import Comparison, Control, Gate, Measurement, Results, VariantRow, write_results

SHAPES = tuple({"batch_size": size, "sequence_length": 32, "threads": 1} for size in (1, 8))
_BY_SHAPE = ("latency_mean", "latency_p50", "latency_p90", "latency_p95", "latency_p99", "throughput", "first_call")
_ON_ALL = ("accuracy", "f1_macro", "log_loss", "load_time", "peak_memory", "artifact_bytes")
_RENDER = """
import json, resource, sys, time
start = time.perf_counter()
from weighbridge.reports import render
path = render(sys.argv[1])
used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
ours, drawing = (each.ru_maxrss * 1024 for each in used)
print(json.dumps({"wall": time.perf_counter() - start, "cpu": sum(each.ru_utime + each.ru_stime for each in used),
                  "peak": ours, "drawing": drawing, "bytes": path.stat().st_size}))
"""


def results_of(variants: int) -> Results:
    """A run of so many variants with 20 measurements each: the baseline, and candidates of rising speed and falling accuracy."""
    names = ["base", *(f"candidate-{number:03d}" for number in range(1, variants))]
    speeds = {name: 1 + number / variants for number, name in enumerate(names)}
    candidates = names[1:]
    comparisons = [each for name in candidates for each in _comparisons(name, speeds[name])]
    return Results(
        environment={"date": "2026-11-24T14:10:00+00:00", "commit": "", "machine": "any"},
        config={"workload": {"name": "many"}},
        variants=tuple(
            VariantRow(name, "onnxruntime", "int8", "ok", baseline=name == "base", bytes=4_000_000) for name in names
        ),
        measurements=tuple(each for name in names for each in _measurements(name, speeds[name])),
        comparisons=tuple(comparisons),
        control=tuple(Control("latency_p50", shape, 1.0, 0.995, 1.005, (1.0, 1.0, 1.001, 0.999)) for shape in SHAPES),
        gates=tuple(_gate(each) for each in comparisons),
    )


def _measurements(name: str, speed: float) -> list[Measurement]:
    """Seven metrics at each of two shapes, six on all: twenty."""
    by_shape = [
        Measurement(name, metric, "ms", shape, 10 / speed, 9.9 / speed, 10.1 / speed, 400)
        for metric in _BY_SHAPE
        for shape in SHAPES
    ]
    value = 1 - 0.1 * speed
    return by_shape + [Measurement(name, metric, "1", {}, value, 0.9 * value, value, 1000, 0.01) for metric in _ON_ALL]


def _comparisons(name: str, speed: float) -> list[Comparison]:
    singles = tuple((1 + 0.002 * step) / speed for step in (-1, 0, 0, 1))
    ratios = [
        Comparison(name, "latency_p50", shape, "ratio", 1 / speed, 0.99 / speed, 1.01 / speed, 0.99, 4, singles)
        for shape in SHAPES
    ]
    change = 0.1 - 0.1 * speed
    return [
        *ratios,
        Comparison(name, "accuracy", {}, "difference", change, change - 0.01, change + 0.01, 0.99, 1000),
    ]


def _gate(each: Comparison) -> Gate:
    limit = {"max": 1.03} if each.kind == "ratio" else {"min": -0.01}
    held = each.high < 1.03 if each.kind == "ratio" else each.low > -0.01  # noqa: PLR2004 - the limits above
    sentence = f"{each.variant}: {each.metric} {each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"
    return Gate(
        each.metric, each.kind, limit, each.variant, each.conditions, "pass" if held else "inconclusive", sentence
    )


def rendered(folder: Path) -> dict[str, float]:
    """Render the page of a run folder in a fresh process.

    Returns:
        Its seconds of wall and processor time (`wall`, `cpu`), the peaks in bytes of the process and of the child that draws (`peak`,
        `drawing`), and the `bytes` of the page.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RENDER, str(folder)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Write the run, render it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=200)
    parser.add_argument("--times", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_results(results_of(chosen.variants), Path(folder))
        for _ in range(chosen.times):
            found = rendered(Path(folder))
            print(
                f"{chosen.variants} variants: {found['wall']:.2f} s, {found['cpu']:.2f} s of processor time, "
                f"{found['peak'] / 1e6:.0f} MB, drawing {found['drawing'] / 1e6:.0f} MB, page {found['bytes'] / 1e6:.2f} MB"
            )


if __name__ == "__main__":
    main()
