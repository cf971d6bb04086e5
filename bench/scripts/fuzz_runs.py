"""What Weighbridge has written, for fuzz.py to damage: run folders, artifacts and plans, and the part that reads each again."""

from pathlib import Path

import numpy as np
from fuzz_targets import ROWS, Target, all_read, undrawn

PROBES = ({"x": np.array([[0, 0], [1, 1], [2, 2]], np.float32)},)


def _write_plans(folder: Path) -> None:
    from weighbridge.optimize.factory import Architecture
    from weighbridge.optimize.int8_plan import Int8Plan
    from weighbridge.optimize.pruning_plan import Group, Member, write_plan
    from weighbridge.optimize.source import Source

    change = Group("units", "0", 4, (Member("0.weight", 0), Member("2.weight", 1)), (("0.out_features", 1),)).keeping(
        [0, 2]
    )
    write_plan(folder, [change, {"kind": "layers-kept", "group": "l", "target": "layers", "size": 3, "kept": [0, 2]}])
    Architecture(Source("module", "mine:model", "tabular-classification", "a" * 64), (change,)).write(folder)
    Int8Plan(scheme="torch.ao", layers=("0", "2")).write(folder)
    (folder / "base.fake.json").write_text('{"latency_ms": 2.0, "classes": 3, "outputs": "scores"}', encoding="utf-8")


def _take_plans(folder: Path, path: Path) -> None:
    from weighbridge.bench.config import WorkloadConfig
    from weighbridge.bench.workloads.fake import prepare_fake
    from weighbridge.optimize.factory import read_architecture
    from weighbridge.optimize.int8_plan import read_int8_plan
    from weighbridge.optimize.pruning_plan import read_plan

    del path
    fake = folder / "base.fake.json"
    config = WorkloadConfig(name="w", task="tabular-classification", model=str(fake))
    all_read(
        lambda: read_architecture(folder),
        lambda: read_int8_plan(folder),
        lambda: read_plan(folder),
        lambda: prepare_fake(config, fake, folder / "prepared"),
    )


def _write_artifact(folder: Path) -> None:
    from weighbridge.optimize.build import adopt
    from weighbridge.optimize.cache import ArtifactCache
    from weighbridge.optimize.model import Examples

    path = folder / "m.fake.json"
    path.write_text('{"latency_ms": 2.0}', encoding="utf-8")
    adopt(path, "fake", None, examples=Examples(PROBES), cache=ArtifactCache(folder / "cache"))


def _take_artifact(folder: Path, path: Path) -> None:
    from weighbridge.optimize.cache import ArtifactCache
    from weighbridge.optimize.variant import Variant

    cache = ArtifactCache(folder / "cache")
    cache.variants()
    cache.verify()
    variant = Variant.read(path.parent)
    variant.damage()
    variant.copy_to(folder / "copy").open().close()


def _write_run(folder: Path) -> None:
    from weighbridge.bench.config import parse_config
    from weighbridge.bench.running import Options, run

    (folder / "base.fake.json").write_text('{"latency_ms": 2.0, "noise": 0.02}', encoding="utf-8")
    (folder / "next.fake.json").write_text('{"latency_ms": 1.0, "noise": 0.02, "error_rate": 0.05}', encoding="utf-8")
    workload = {
        "name": "w",
        "task": "tabular-classification",
        "model": "base.fake.json",
        "columns": {"slices": ["parity"]},
    }
    variants = [
        {"name": "base", "backend": "fake", "baseline": True},
        {"name": "next", "backend": "fake", "artifact": "next.fake.json"},
    ]
    rules = [{"metric": "accuracy", "compare": "difference", "min": -0.2, "slice": "parity"}]
    config = {
        "workload": workload,
        "variants": variants,
        "measure": {"batch_sizes": [1, 4]},
        "gates": {"preset": "no-regression", "rules": rules},
    }
    run(parse_config(config, "fuzz"), Options(out=folder / "run", base=folder, quick=True))


def _take_run(folder: Path, path: Path) -> None:
    from weighbridge.bench.derive import derive
    from weighbridge.bench.results import write_results

    if path.name != "results.json":
        write_results(derive(folder / "run"), folder / "run")
    _render(folder / "run")


def _write_results(folder: Path) -> None:
    _write_run(folder)
    for path in sorted((folder / "run").rglob("*"), reverse=True):
        if path.name != "results.json":
            path.rmdir() if path.is_dir() else path.unlink()


def _take_results(folder: Path, path: Path) -> None:
    del path
    _render(folder / "run")


def _render(run: Path) -> None:
    """Every format."""
    from weighbridge.reports import render

    for name in ("md", "csv", "junit", "json", "html"):
        with undrawn():
            render(run, run.parent / f"out.{name}", name)


def _write_answers(folder: Path) -> None:
    from weighbridge.bench.generated import Generations, write_generations
    from weighbridge.bench.predictions import WindowScores, write_window_scores

    tokens = [tuple(np.arange(1, 9, dtype=np.int64) + (row % 3 == shift) for row in range(ROWS)) for shift in (0, 1)]
    texts = ("the cat sat",) * ROWS
    margins = tuple(np.full(8, 0.4, np.float32) for _ in range(ROWS))
    answers = {
        name: Generations(texts, texts, each, margins, texts, 8) for name, each in zip("ab", tokens, strict=True)
    }
    write_generations(folder, answers)
    counts = np.full(ROWS, 15.0)
    near = tuple(np.array([0.1, 0.2]) for _ in range(ROWS))
    write_window_scores(
        folder,
        {
            "a": WindowScores(3 * counts, counts, 4 * counts),
            "b": WindowScores(3 * counts + np.arange(ROWS) / 9, counts, 4 * counts, near),
        },
    )


def _take_answers(folder: Path, path: Path) -> None:
    from weighbridge.bench.generated import read_generations, side_by_side
    from weighbridge.bench.generation_evidence import text_evidence, window_evidence
    from weighbridge.bench.predictions import read_window_scores
    from weighbridge.bench.quality_measurements import generation_measurements

    del path
    windows, answers = read_window_scores(folder), read_generations(folder)
    list(generation_measurements(windows, answers, "a"))
    list(side_by_side(answers, "a"))
    for piece in (*text_evidence(answers, "a"), *window_evidence(windows, "a")):
        for kind in piece.kinds:
            piece.interval(kind, 0.005, 0.005)


TARGETS = (
    Target("plans", _write_plans, _take_plans),
    Target("artifact", _write_artifact, _take_artifact, "cache/*/*"),
    Target("run", _write_run, _take_run, "run/**/*", weight=3),
    Target("results", _write_results, _take_results, "run/*", weight=3),
    Target("answers", _write_answers, _take_answers),
)
