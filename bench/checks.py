"""One visit to every built variant before the weighing: how long its calls take, and what it answers."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import BuildError, WeighbridgeError
from .building import Built
from .child import Child, Progress
from .environment import processor
from .generated import NEAR_TIE, Generations
from .metrics import Conditions
from .predictions import ClassPredictions, WindowScores, predicted_classes
from .samples import key_of
from .scoring import divergences, places_of
from .session import OPEN_TIMEOUT_S
from .workloads.base import Prepared
from .workloads.prompts import Prompts

SCORING_BATCH = 16
_TIMEOUT_S = 3600.0
_LEAST_TO_DIFFER = 16
"""Fewer examples may all be answered alike by a sound model, one with saturated scores."""


@dataclass(frozen=True)
class Checked:
    """What the check of one variant found: milliseconds of a call by shape key, peak memory, answers; or why it failed.

    Of a generator also its answers to the prompts, the log-probabilities of next tokens (places, vocabulary), and where a padded
    batch went other ways than single requests at a tie (answering.NearTie).
    """

    name: str
    call_ms: dict[str, float]
    peak_bytes: int = 0
    answers: ClassPredictions | WindowScores | None = None
    failure: str = ""
    generations: Generations | None = None
    next_tokens: NDArray[np.float32] | None = None
    near_ties: tuple[dict[str, Any], ...] = ()


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
    baseline = next((made.name for made in built if made.config.baseline), "")
    return list(_with_divergences(checked, prepared, baseline))


def _with_divergences(checked: Sequence[Checked], prepared: Prepared, baseline: str) -> Iterator[Checked]:
    """How far each generator's next tokens are from the baseline's; the distributions themselves are dropped."""
    theirs = next((each.next_tokens for each in checked if each.name == baseline), None)
    for each in checked:
        scores = each.answers
        if each.next_tokens is None or not isinstance(scores, WindowScores):
            yield each
            continue
        if theirs is not None and each.name != baseline:
            places = places_of(prepared.arrays("scoring", 0)["scored"], theirs.shape[1])[:, 0]
            found = divergences(theirs, each.next_tokens)
            of_window = tuple(found[places == window] for window in range(len(scores.nll)))
            scores = replace(scores, divergences=of_window)
        yield replace(each, answers=scores, next_tokens=None)


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
            found = _answers(child, built, prepared) if prepared.examples else Checked(built.name, {})
            peak = child.call("memory", timeout=OPEN_TIMEOUT_S)["peak_bytes"]
    except WeighbridgeError as error:
        return Checked(built.name, {}, failure=str(error))
    return replace(found, call_ms=call_ms, peak_bytes=peak)


def _call_ms(child: Child, prepared: Prepared, shape: Conditions) -> float:
    key = key_of(shape)
    child.call("shape", {"key": key, "prepared": str(prepared.folder), "conditions": dict(shape)}, timeout=_TIMEOUT_S)
    calls = child.call("warm", {"key": key}, timeout=_TIMEOUT_S)["calls"]
    return call_length(calls)


def call_length(warm_calls: Sequence[Sequence[float]]) -> float:
    """The median length of the warm-up's calls, in their unit; the first, which is slower, counts only where it is alone."""
    return float(np.median([sum(call) for call in warm_calls[1:] or warm_calls]))


def _answers(child: Child, built: Built, prepared: Prepared) -> Checked:
    """What the variant answers on every evaluation example."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name:
        if prepared.kind == "decoder":
            return _generator_answers(child, built, prepared, Path(name))
        out = str(Path(name) / "scores.npy")
        sizes = {"length": max(prepared.lengths), "batch_size": prepared.fixed_batch or SCORING_BATCH}
        child.call("predict", {"prepared": str(prepared.folder), "out": out, **sizes}, timeout=_TIMEOUT_S)
        return Checked(built.name, {}, answers=_class_predictions(prepared, _sound(np.load(out))))


def _generator_answers(child: Child, built: Built, prepared: Prepared, folder: Path) -> Checked:
    """The likelihoods of a generator on the windows, and its answers to the prompts."""
    scored, answered = str(folder / "scored.npz"), str(folder / "answered.npz")
    place = str(prepared.folder)
    child.call("score_windows", {"prepared": place, "out": scored}, timeout=_TIMEOUT_S)
    arguments = {"prepared": place, "out": answered, "tie": _tie(built)}
    near_ties = child.call("answer_prompts", arguments, timeout=_TIMEOUT_S)["near_ties"]
    with np.load(scored) as windows, np.load(answered) as answers:
        return Checked(
            built.name,
            {},
            answers=WindowScores(
                nll=windows["nll"],
                tokens=prepared.arrays("scoring", 0)["scored"].sum(axis=1).astype(np.float64),
                bytes=np.load(prepared.folder / "scoring" / "bytes.npy").astype(np.float64),
            ),
            generations=_generations(Prompts.read(prepared.folder), answers["tokens"], answers["margins"]),
            next_tokens=windows["next_tokens"],
            near_ties=tuple(near_ties),
        )


def _tie(built: Built) -> float:
    """How near two logits of a variant lie when rounding may choose between them: twice as far as its own rounding moves them.

    A variant of lower precision is off the source model by much more than a padded row is off a single one, and the scales of
    dynamic INT8 depend on batch mates; what lies within that is no fault of the mask.
    """
    parity = built.variant.manifest.parity
    return max(NEAR_TIE, 2 * parity.max_abs if parity else 0.0)


def _generations(prompts: Prompts, tokens: NDArray[np.int64], margins: NDArray[np.float32]) -> Generations:
    """Answers up to their end token, as tokens and as text."""
    ended = tuple(prompts.until_end(each) for each in tokens)
    return Generations(
        prompts=prompts.texts,
        references=prompts.references,
        tokens=ended,
        margins=tuple(margin[: len(each)] for margin, each in zip(margins, ended, strict=True)),
        texts=tuple(prompts.text_of(each) for each in ended),
        most=prompts.max_new_tokens,
        greedy=prompts.sampling is None,
    )


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
