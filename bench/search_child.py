"""The child's side of a search's trial: score a variant, and time it in turn with the whole quantized one in the same process."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import SCORING_BATCH, call_length
from .metrics import Conditions
from .plan import visit_calls
from .samples import key_of
from .search_answers import CLASSES_FILE, WINDOWS_FILE, keep_divergences
from .workloads.base import Prepared

if TYPE_CHECKING:
    from .worker import Weigher

_ROUNDS = (6, 15)
_TIMING_SECONDS = 2.0


def try_variant(
    whole: "Weigher",
    other: "Weigher",
    *,
    variant: str,
    threads: int,
    provider: str | None,
    scored: str,
    timed: str,
    conditions: Conditions,
    seed: int,
    float_trial: str | None,
    out: str,
) -> dict[str, Any]:
    """Score one part with a variant, then time calls of it and of the whole quantized one, which is open and warm, in turn.

    Args:
        whole: holds the whole quantized variant, with the inputs of `conditions` loaded.
        other: holds nothing yet.
        variant: folder of the artifact.
        threads: compute threads of a call.
        provider: the execution provider, None for the CPU's.
        scored: folder of the part that it answers.
        timed: folder of the part whose rows calls are timed with.
        conditions: the shape at which they are.
        seed: of the order of visits.
        float_trial: folder of the float model's trial, from whose next tokens divergences are kept; None where it is to come.
        out: folder for its answers (search_answers.py).

    Returns:
        `log_ratios`: of each round, the log of the variant's median call over the whole one's; `whole_ms`: the latter's median.
    """
    key, part = key_of(conditions), Prepared.read(Path(scored))
    other.open(variant, threads, provider)
    _score(other, part, Path(out), None if float_trial is None else Path(float_trial))
    other.shape(key, timed, dict(conditions))
    call_ms = call_length(other.warm(key)["calls"])
    medians = np.array(_rounds((whole, other), key, call_ms, seed))
    other.opened.close()
    return {"log_ratios": np.log(medians[:, 1] / medians[:, 0]).tolist(), "whole_ms": float(np.median(medians[:, 0]))}


def _score(other: "Weigher", part: Prepared, out: Path, float_trial: Path | None) -> None:
    if part.kind == "classifier":
        size = part.fixed_batch or SCORING_BATCH
        other.predict(str(part.folder), max(part.lengths), size, str(out / CLASSES_FILE))
        return
    other.score_windows(str(part.folder), str(out / WINDOWS_FILE))
    if float_trial is not None:
        keep_divergences(out, float_trial)


def _rounds(weighers: tuple["Weigher", ...], key: str, call_ms: float, seed: int) -> list[list[float]]:
    """The median call of each in milliseconds, by round; they are visited in random order, in 6 to 15 rounds of about two seconds."""
    settle, timed = visit_calls(call_ms)
    seconds = len(weighers) * (settle + timed) * call_ms / 1e3
    rounds = int(np.clip(_TIMING_SECONDS / max(seconds, 1e-6), *_ROUNDS))
    random = np.random.default_rng(seed)
    found = [[0.0] * len(weighers) for _ in range(rounds)]
    for round_ in range(rounds):
        for index in random.permutation(len(weighers)):
            visit = weighers[index].visit(key, round_, settle + timed, settle)
            calls = [sum(call) for call, phase in zip(visit["calls"], visit["phases"], strict=True) if phase == "timed"]
            found[round_][index] = float(np.median(calls))
    return found
