"""What keeping all variants to one processor is worth on this machine: replicates of both ways in turns, of a model and its twin.

Run: python bench/scripts/one_processor.py --pairs 12      (some three minutes)
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from live_rates import SAME, Scene, config_of, scene
from numpy.typing import NDArray
from weighbridge.bench.journal import Journal
from weighbridge.bench.samples import CONTROL, Replicate
from weighbridge.bench.session import Setting, only_one_weighs, weigh
from weighbridge.bench.stats import t_quantile

WAYS = {"one processor": True, "free": False}
ROUNDS = 40


def replicate(scene_: Scene, seed: int, *, one: bool) -> Replicate:
    """Fresh processes and ROUNDS rounds, kept to one processor or free."""
    shapes = tuple(replace(shape, rounds=ROUNDS) for shape in scene_.plan.shapes)
    plan = replace(scene_.plan, shapes=shapes, replicates=1)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name:
        setting = Setting(scene_.prepared, Path(name), (scene_.contenders,), seed=seed, keep_to_one=one)
        weighed = weigh(setting, plan, Journal(Path(name)), lambda _: False, lambda *_: None)
    if weighed.failed:
        raise SystemExit(f"a worker failed: {weighed.failed}")
    return weighed.replicates[0]


def log_ratios(taken: Replicate) -> NDArray[np.float64]:
    """Of each round the log ratio of the twin's median call to the model's, whose truth is 0."""
    (key,) = {shape for _, shape in taken.timed}
    base, twin = (taken.visits(name, key) for name in ("base", CONTROL))
    return np.log([np.median(twin[each]) / np.median(base[each]) for each in base])


def scatter(ratios: NDArray[np.float64]) -> float:
    """How far rounds lie from their median: 1.4826 median absolute deviations."""
    return 1.4826 * float(np.median(np.abs(ratios - np.median(ratios))))


def summary(found: dict[str, list[NDArray[np.float64]]]) -> str:
    """Scatter of rounds and of replicates in each way, and how many times as many rounds the other would need."""
    lines = []
    for way, replicates in found.items():
        rounds = np.median([scatter(each) for each in replicates])
        between = np.std([np.median(each) for each in replicates], ddof=1)
        lines.append(f"{way}: rounds scatter by {rounds:.2%}, replicates of {ROUNDS} rounds by {between:.2%}")
    logs = np.array([2 * math.log(scatter(b) / scatter(a)) for a, b in zip(*found.values(), strict=True)])
    half = -t_quantile(0.025, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, middle, high = (math.exp(logs.mean() + side) for side in (-half, 0, half))
    lines.append(
        f"as precise when free: {middle:.1f} times the rounds (95 %: {low:.1f} to {high:.1f}, {len(logs)} pairs)"
    )
    return "\n".join(lines)


def measure(pairs: int, scene_: Scene, random: np.random.Generator) -> dict[str, list[NDArray[np.float64]]]:
    """So many replicates of each way, the two of a pair in random order."""
    found: dict[str, list[NDArray[np.float64]]] = {way: [] for way in WAYS}
    for seed in range(pairs):
        for way in random.permutation(list(WAYS)):
            found[way].append(log_ratios(replicate(scene_, seed, one=WAYS[way])))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name, only_one_weighs(print):
        folder = Path(name)
        for scene_ in scene(folder, config_of(folder), [SAME]):
            print(summary(measure(chosen.pairs, scene_, np.random.default_rng(0))))


if __name__ == "__main__":
    main()
