"""One visit to every built variant before the weighing: how long its calls take, and what it answers."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import BuildError, WeighbridgeError
from .building import Built
from .child import Child, Progress
from .environment import processor
from .metrics import Conditions
from .predictions import ClassPredictions, WindowScores, predicted_classes
from .samples import key_of
from .session import OPEN_TIMEOUT_S
from .workloads.base import Prepared

SCORING_BATCH = 16
_WINDOW_BATCH = 4
_TIMEOUT_S = 3600.0
_LEAST_TO_DIFFER = 16
"""Fewer examples may all be answered alike by a sound model, one with saturated scores."""


@dataclass(frozen=True)
class Checked:
    """What the check of one variant found: milliseconds of a call by shape key, peak memory, answers; or why it failed."""

    name: str
    call_ms: dict[str, float]
    peak_bytes: int = 0
    answers: ClassPredictions | WindowScores | None = None
    failure: str = ""


def check_all(
    built: Sequence[Built],
    prepared: Prepared,
    shapes: tuple[Conditions, ...],
    *,
    threads: int,
    provider: str | None,
    progress: Progress,
) -> list[Checked]:
    """Check every variant, as many side by side as have cores to themselves; nothing measured here is reported."""
    beside = max(1, processor().cores // threads) if provider is None else 1

    def check_one(made: Built) -> Checked:
        return check(made, prepared, shapes, threads=threads, provider=provider)

    checked = []
    with ThreadPoolExecutor(beside) as pool:
        for each in pool.map(check_one, built):
            checked.append(each)
            progress(len(checked) / len(built), f"{each.name} failed" if each.failure else each.name)
    return checked


def check(
    built: Built, prepared: Prepared, shapes: tuple[Conditions, ...], *, threads: int, provider: str | None
) -> Checked:
    """Open a variant in its own process, time a call at each shape, and have it answer every evaluation example.

    A variant whose answers are none (not finite, too few, the same for every input, other at each call) has failed.
    """
    try:
        with Child(built.name, threads=threads) as child:
            arguments = {"variant": str(built.folder), "threads": threads, "provider": provider}
            child.call("open", arguments, timeout=OPEN_TIMEOUT_S)
            call_ms = {key_of(shape): _call_ms(child, prepared, shape) for shape in shapes}
            child.call("repeat", {"key": next(iter(call_ms))}, timeout=_TIMEOUT_S)
            answers = _answers(child, prepared)
            peak = child.call("memory", timeout=OPEN_TIMEOUT_S)["peak_bytes"]
    except WeighbridgeError as error:
        return Checked(built.name, {}, failure=str(error))
    return Checked(built.name, call_ms, peak, answers)


def _call_ms(child: Child, prepared: Prepared, shape: Conditions) -> float:
    key = key_of(shape)
    child.call("shape", {"key": key, "prepared": str(prepared.folder), "conditions": dict(shape)}, timeout=_TIMEOUT_S)
    calls = child.call("warm", {"key": key}, timeout=_TIMEOUT_S)["calls"]
    return call_length(calls)


def call_length(warm_calls: Sequence[Sequence[float]]) -> float:
    """The median length of the warm-up's calls, in their unit; the first, which is slower, counts only where it is alone."""
    return float(np.median([sum(call) for call in warm_calls[1:] or warm_calls]))


def _answers(child: Child, prepared: Prepared) -> ClassPredictions | WindowScores | None:
    if not prepared.examples:
        return None
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        out = str(Path(folder) / "scores.npy")
        arguments = {"prepared": str(prepared.folder), "out": out}
        if prepared.kind == "decoder":
            child.call("score_windows", {**arguments, "batch_size": _WINDOW_BATCH}, timeout=_TIMEOUT_S)
            table = np.load(out)
            return WindowScores(nll=table[:, 0], tokens=table[:, 1])
        sizes = {"length": max(prepared.lengths), "batch_size": prepared.fixed_batch or SCORING_BATCH}
        child.call("predict", {**arguments, **sizes}, timeout=_TIMEOUT_S)
        return _class_predictions(prepared, _sound(np.load(out)))


def _sound(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores, shape (examples, classes), unless they tell nothing of the examples."""
    if len(scores) >= _LEAST_TO_DIFFER and (scores == scores[0]).all():
        raise BuildError(f"outputs are constant: the same for all {len(scores)} examples")
    return scores


def _class_predictions(prepared: Prepared, scores: NDArray[np.float32]) -> ClassPredictions:
    labels = prepared.labels()
    return ClassPredictions(
        labels=np.full(len(scores), -1, np.int64) if labels is None else labels,
        predicted=predicted_classes(scores),
        scores=scores,
        texts=tuple(prepared.excerpts()),
        slices=prepared.slices(),
    )
