"""Weigh real models of known truth again and again on this machine: how often is a verdict wrong, and how soon does it come?

Run: python bench/scripts/live_rates.py --trials 300 --ledger quiet.jsonl            (over an hour; each trial is a whole weighing)
     python bench/scripts/live_rates.py --trials 300 --ledger loaded.jsonl --load    (another process loads one core half of the time)

Every finished trial is a line of the ledger; stopped and started again, the script goes on with the next one.

A trial weighs the probe model (bench/probe.py) against itself and against one with 5 % more work, at a limit of 3 %; each
candidate has its own verdict at the default error rate, as in a run of its own. Beside it, on the same samples, stand a mean
rule (what `pytest-benchmark --benchmark-compare-fail=mean:3%` asks) and a sequential t interval over rounds.
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray
from weighbridge.bench.checks import check_all
from weighbridge.bench.config import Config, parse_config
from weighbridge.bench.evidence_of_run import speed_evidence
from weighbridge.bench.journal import Journal
from weighbridge.bench.judge import VariantState, judge
from weighbridge.bench.looks import LOOKS
from weighbridge.bench.plan import Plan, make_plan
from weighbridge.bench.probe import LAYERS, write_probe
from weighbridge.bench.reporter import Silent
from weighbridge.bench.rules import Rule
from weighbridge.bench.running import Options, build_all, prepared_workload, shapes_of
from weighbridge.bench.samples import CONTROL, key_of
from weighbridge.bench.session import Contender, Setting, Weighed, only_one_weighs, weigh
from weighbridge.bench.stats import t_quantile

LIMIT = 1.03
RULE = Rule("latency_p50", "ratio", LIMIT, maximum=True)
ERROR = 0.01
SAME, SLOWER = "same", "slower"
MAX_SECONDS = 60.0
BUSY_SECONDS = 0.05


@dataclass(frozen=True)
class Outcome:
    """The verdict on one candidate in one trial, and when it came; beside it what two other rules say of the samples."""

    verdict: str
    sampling_seconds: float
    wall_seconds: float
    ratio: float
    mean_rule: str
    rounds_t: str


@dataclass(frozen=True)
class Scene:
    """What every trial weighs: prepared inputs, contenders, plan."""

    prepared: Path
    contenders: tuple[Contender, ...]
    plan: Plan


def scene(folder: Path, config: Config, candidates: Sequence[str]) -> Iterator[Scene]:
    """Build the variants and plan the weighing once; gives one scene, whose files live until the next is asked for."""
    options = Options(base=folder)
    with prepared_workload(config, options, Silent()) as prepared:
        built = build_all(config, prepared, options, Silent())
        shapes = shapes_of(config, prepared)
        checked = {
            each.name: each
            for each in check_all(built, prepared, shapes, threads=1, provider=None, progress=lambda *_: None)
        }
        folders = {each.name: each.folder for each in built}
        contenders = [Contender("base", folders["base"]), Contender(CONTROL, folders["base"])]
        contenders += [Contender(name, folders[name]) for name in candidates]
        names = ["base", "base", *candidates]
        call_ms = {key_of(shape): [checked[name].call_ms[key_of(shape)] for name in names] for shape in shapes}
        yield Scene(prepared.folder, tuple(contenders), make_plan(shapes, call_ms, max_seconds=MAX_SECONDS))


def config_of(folder: Path) -> Config:
    """The probe, the probe again, and one with 5 % more layers."""
    write_probe(folder / "base.onnx", LAYERS)
    write_probe(folder / "slower.onnx", round(1.05 * LAYERS))
    variants = [
        {"name": "base", "artifact": "base.onnx", "baseline": True},
        {"name": SAME, "artifact": "base.onnx"},
        {"name": SLOWER, "artifact": "slower.onnx"},
    ]
    workload = {"name": "probe", "model": "base.onnx", "task": "tabular-classification"}
    return parse_config({"workload": workload, "variants": variants}, "live rates")


def trial(number: int, scene_: Scene, candidates: Sequence[str]) -> dict[str, Outcome]:
    """One weighing to the verdict on every candidate."""
    found: dict[str, tuple[str, float, float, float]] = {}
    start = time.monotonic()

    def decided(weighed: Weighed) -> bool:
        for name in candidates:
            verdict, ratio = verdict_on(name, weighed, scene_.plan)
            if name not in found and (verdict != "inconclusive" or len(weighed.replicates) == scene_.plan.replicates):
                share = 3 / len(scene_.contenders)
                found[name] = (verdict, share * weighed.sampling_seconds, time.monotonic() - start, ratio)
        return len(found) == len(candidates)

    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name:
        run = Path(name)
        setting = Setting(scene_.prepared, run, (scene_.contenders,), seed=number)
        weigh(setting, scene_.plan, Journal(run), decided, lambda *_: None)
        samples = [pandas.read_parquet(path) for path in sorted((run / "samples").glob("*.parquet"))]
    return {name: Outcome(*found[name], mean_rule(samples, name), rounds_t(samples, name)) for name in candidates}


def verdict_on(candidate: str, weighed: Weighed, plan: Plan) -> tuple[str, float]:
    """What a run with this candidate alone would say now, and its ratio."""
    if weighed.failed:
        raise SystemExit(f"a worker failed: {weighed.failed}")
    pieces = speed_evidence(weighed.replicates, "base", "classifier", planned=plan.replicates)
    judgement = judge(
        [RULE],
        [piece for piece in pieces if piece.variant == candidate],
        {"base": VariantState("ok"), candidate: VariantState("ok")},
        baseline="base",
        error_rate=ERROR,
    )
    ratio = next(each.value for each in judgement.comparisons if each.metric == "latency_p50" and each.kind == "ratio")
    return judgement.gates[0].verdict, ratio


def mean_rule(samples: Sequence[pandas.DataFrame], candidate: str) -> str:
    """Mean against mean over all timed calls, a point estimate."""
    timed = pandas.concat(samples).query("phase == 'timed'").groupby("variant")["milliseconds"].mean()
    return "fail" if timed[candidate] / timed["base"] > LIMIT else "pass"


def rounds_t(samples: Sequence[pandas.DataFrame], candidate: str) -> str:
    """A sequential t interval over rounds as if they were independent, looked at after every replicate."""
    ratios: list[NDArray[np.float64]] = []
    for table in samples:
        timed = table.query("phase == 'timed'").groupby(["round", "variant"])["milliseconds"].median().unstack()  # noqa: PD010 - one value a cell, nothing to aggregate
        ratios.append(np.log((timed[candidate] / timed["base"]).to_numpy()))
        values = np.concatenate(ratios) - math.log(LIMIT)
        half = -t_quantile(ERROR / LOOKS[-1], len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
        if abs(values.mean()) > half:
            return "fail" if values.mean() > 0 else "pass"
    return "inconclusive"


def read_ledger(ledger: Path) -> list[dict[str, Outcome]]:
    """The finished trials; none where there is no such file yet."""
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    return [{name: Outcome(**facts) for name, facts in json.loads(line).items()} for line in lines]


def append(ledger: Path, outcome: dict[str, Outcome]) -> None:
    """Write one finished trial behind the others."""
    with ledger.open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: asdict(each) for name, each in outcome.items()}) + "\n")


def half_load() -> None:
    """Load one core half of the time, for ever."""
    while True:
        end = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < end:
            pass
        time.sleep(BUSY_SECONDS)


def print_summary(outcomes: Sequence[dict[str, Outcome]], candidates: Sequence[str]) -> None:
    """How often each rule said what, and the time to a verdict."""
    for name in candidates:
        mine = [each[name] for each in outcomes]
        truth = "1.00x, holds" if name == SAME else "1.05x, broken"
        print(f"\n{name} (truth {truth}), {len(mine)} verdicts, limit {LIMIT}x:")
        for words, verdicts in (
            ("weighbridge", [each.verdict for each in mine]),
            ("mean rule", [each.mean_rule for each in mine]),
            ("sequential t over rounds", [each.rounds_t for each in mine]),
        ):
            counts = {word: verdicts.count(word) for word in ("pass", "fail", "inconclusive")}
            print(f"  {words}: {', '.join(f'{number} {word}' for word, number in counts.items())}")
        seconds = np.array([each.sampling_seconds for each in mine])
        wall = np.array([each.wall_seconds for each in mine])
        ratios = np.array([each.ratio for each in mine])
        print(
            f"  sampling to the verdict: median {np.median(seconds):.1f} s, 95 % within {np.quantile(seconds, 0.95):.1f} s"
        )
        print(
            f"  wall time to the verdict: median {np.median(wall):.1f} s; ratio: median {np.median(ratios):.4f}, sd {ratios.std():.4f}"
        )


def main() -> None:
    """Run the trials and print each, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument(
        "--ledger", type=Path, required=True, help="file of finished trials, a JSON line each; gone on with"
    )
    parser.add_argument("--load", action="store_true", help="load one core half of the time; weigh the same model only")
    chosen = parser.parse_args()
    candidates = [SAME] if chosen.load else [SAME, SLOWER]
    outcomes = read_ledger(chosen.ledger)
    loader = multiprocessing.Process(target=half_load, daemon=True)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name, only_one_weighs(print):
        folder = Path(name)
        for scene_ in scene(folder, config_of(folder), candidates):
            print(scene_.plan.sentence(), flush=True)
            if chosen.load:
                loader.start()
            for number in range(len(outcomes) + 1, chosen.trials + 1):
                outcomes.append(trial(number, scene_, candidates))
                append(chosen.ledger, outcomes[-1])
                print(number, outcomes[-1], flush=True)
    print_summary(outcomes, candidates)
    if chosen.load:
        loader.kill()


if __name__ == "__main__":
    main()
