"""One visit to every built variant before the weighing: how long its calls take, and what it answers.

A check leaves what it found in a folder of its own, as it came from the variant's process:

    facts.json              length of a call at each shape, peak memory, near ties
    scores.npy              classifiers: shape (examples, classes)
    scored.npz, answered.npz   generators: likelihoods of the windows, answers to the prompts
"""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends import backend
from ..optimize.errors import BuildError, WeighbridgeError
from ..optimize.files import appearing, work_folder, write_json
from ..optimize.plain_data import checked, parse_json
from .building import Built
from .child import Child, Crew, Progress
from .environment import processor
from .generated import NEAR_TIE, Generations
from .metrics import Conditions
from .on_device import DeviceFacts
from .predictions import ClassPredictions, WindowScores, predicted_classes
from .samples import key_of
from .scoring import divergences, places_of
from .session import OPEN_TIMEOUT_S
from .workloads.base import Prepared
from .workloads.prompts import Prompts

SCORING_BATCH = 16
_FACTS = "facts.json"
_TIMEOUT_S = 3600.0
_KILLED = "its process was killed by signal 9 SIGKILL"
"""How the failure of a check begins whose process the system killed, for lack of memory as a rule."""
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
    device: DeviceFacts = field(default_factory=dict)


@dataclass(frozen=True)
class _Facts:
    """What a check found beside the arrays."""

    call_ms: dict[str, float]
    peak_bytes: int
    near_ties: tuple[dict[str, Any], ...] = field(default_factory=tuple)
    device: dict[str, Any] = field(default_factory=dict)


def check_all(
    built: Sequence[Built],
    prepared: Prepared,
    shapes: tuple[Conditions, ...],
    *,
    threads: int,
    provider: str | None,
    progress: Progress,
    kept: Path | None = None,
) -> list[Checked]:
    """Check every variant, as many side by side as have cores to themselves, one by one on a GPU; no verdict rests on it.

    How much memory a variant takes is not known before its check. So one whose process was killed where others may have run beside
    it is checked once more, alone. `kept` is a folder in which each finished check is left, and from which it is taken the next time.
    """
    on_gpu = provider is not None or any(backend(made.config.backend).form == "plan" for made in built)
    beside = 1 if on_gpu else max(1, min(len(built), processor().cores // threads))
    crew = Crew()

    def check_one(made: Built) -> Checked:
        return check(made, prepared, shapes, threads=threads, provider=provider, kept=kept, crew=crew)

    def again(each: Checked) -> bool:
        return beside > 1 and each.failure.startswith(_KILLED)

    found: list[Checked] = []
    with ThreadPoolExecutor(beside) as pool:
        try:
            for each in pool.map(check_one, built):
                found.append(each)
                words = " was killed and will be checked alone" if again(each) else " failed" if each.failure else ""
                progress(len(found) / len(built), f"{each.name}{words}")
        except BaseException:
            crew.end()
            raise
    found = [check_one(made) if again(each) else each for made, each in zip(built, found, strict=True)]
    baseline = next((made.name for made in built if made.config.baseline), "")
    return list(_with_divergences(found, prepared, baseline))


def _with_divergences(all_: Sequence[Checked], prepared: Prepared, baseline: str) -> Iterator[Checked]:
    """How far each generator's next tokens are from the baseline's; the distributions themselves are dropped.

    A variant whose next tokens are over another vocabulary than the baseline's has failed.
    """
    theirs = next((each.next_tokens for each in all_ if each.name == baseline), None)
    for each in all_:
        scores = each.answers
        if each.next_tokens is None or not isinstance(scores, WindowScores):
            yield each
            continue
        if theirs is not None and each.name != baseline:
            try:
                found = divergences(theirs, each.next_tokens)
            except BuildError as error:
                yield Checked(each.name, {}, failure=str(error))
                continue
            places = places_of(prepared.arrays("scoring", 0)["scored"], theirs.shape[1])[:, 0]
            of_window = tuple(found[places == window] for window in range(len(scores.nll)))
            scores = replace(scores, divergences=of_window)
        yield replace(each, answers=scores, next_tokens=None)


def check(
    built: Built,
    prepared: Prepared,
    shapes: tuple[Conditions, ...],
    *,
    threads: int,
    provider: str | None,
    kept: Path | None = None,
    crew: Crew | None = None,
) -> Checked:
    """Open a variant in its own process, time a call at each shape, and have it answer every evaluation example.

    A variant whose answers are none (not finite, too few, the same for every input, other at each call) has failed. A check that
    came to its end is left in `kept` and not made again. Its process is one of `crew`.
    """
    opening = {"variant": str(built.folder), "threads": threads, "provider": provider}
    with contextlib.ExitStack() as stack:
        place = (kept or stack.enter_context(work_folder())) / built.name
        try:
            if not place.is_dir():
                child = stack.enter_context((crew or Crew()).add(Child(built.name, threads=threads)))
                with appearing(place) as partial:
                    child.call("open", opening, timeout=OPEN_TIMEOUT_S)
                    _ask(child, built, prepared, shapes, partial)
            return _found(built, prepared, place)
        except WeighbridgeError as error:
            return Checked(built.name, {}, failure=str(error))


def _ask(child: Child, built: Built, prepared: Prepared, shapes: tuple[Conditions, ...], place: Path) -> None:
    """Have an opened variant checked by its process, and leave in `place` what was found."""
    call_ms = {key_of(shape): _call_ms(child, prepared, shape) for shape in shapes}
    child.call("repeat", {"key": next(iter(call_ms))}, timeout=_TIMEOUT_S)
    device = child.call("device", timeout=_TIMEOUT_S)
    near_ties = _answer(child, built, prepared, place) if prepared.examples else []
    peak = child.call("memory", timeout=OPEN_TIMEOUT_S)["peak_bytes"]
    write_json(place / _FACTS, asdict(_Facts(call_ms, peak, tuple(near_ties), device)))


def _call_ms(child: Child, prepared: Prepared, shape: Conditions) -> float:
    key = key_of(shape)
    child.call("shape", {"key": key, "prepared": str(prepared.folder), "conditions": dict(shape)}, timeout=_TIMEOUT_S)
    calls = child.call("warm", {"key": key}, timeout=_TIMEOUT_S)["calls"]
    return call_length(calls)


def call_length(warm_calls: Sequence[Sequence[float]]) -> float:
    """The median length of the warm-up's calls, in their unit; the first, which is slower, counts only where it is alone."""
    return float(np.median([sum(call) for call in warm_calls[1:] or warm_calls]))


def _answer(child: Child, built: Built, prepared: Prepared, place: Path) -> list[dict[str, Any]]:
    """Have the variant answer every evaluation example into `place`; returns the near ties of a generator."""
    arrays = {"prepared": str(prepared.folder)}
    if prepared.kind == "classifier":
        sizes = {"length": max(prepared.lengths), "batch_size": prepared.fixed_batch or SCORING_BATCH}
        child.call("predict", {**arrays, "out": str(place / "scores.npy"), **sizes}, timeout=_TIMEOUT_S)
        return []
    child.call("score_windows", {**arrays, "out": str(place / "scored.npz")}, timeout=_TIMEOUT_S)
    arguments = {**arrays, "out": str(place / "answered.npz"), "tie": _tie(built)}
    near_ties: list[dict[str, Any]] = child.call("answer_prompts", arguments, timeout=_TIMEOUT_S)["near_ties"]
    return near_ties


def _found(built: Built, prepared: Prepared, place: Path) -> Checked:
    """What a check left in `place`.

    Raises:
        BuildError: the answers tell nothing of the examples, or have no score for the class of a label.
    """
    facts = checked(_Facts, parse_json((place / _FACTS).read_text(encoding="utf-8")))
    found = Checked(built.name, facts.call_ms, facts.peak_bytes, near_ties=facts.near_ties, device=facts.device)
    if not prepared.examples:
        return found
    if prepared.kind == "classifier":
        return replace(found, answers=_class_predictions(prepared, _sound(np.load(place / "scores.npy"))))
    with np.load(place / "scored.npz") as windows, np.load(place / "answered.npz") as answers:
        return replace(
            found,
            answers=WindowScores(
                nll=windows["nll"],
                tokens=prepared.arrays("scoring", 0)["scored"].sum(axis=1).astype(np.float64),
                bytes=np.load(prepared.folder / "scoring" / "bytes.npy").astype(np.float64),
            ),
            generations=_generations(Prompts.read(prepared.folder), answers["tokens"], answers["margins"]),
            next_tokens=windows["next_tokens"],
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
    """The answers beside the labels; a single score a row is a binary model's.

    Raises:
        BuildError: a label's class has no score.
    """
    labels = prepared.labels()
    classes = max(2, scores.shape[1])
    if labels is not None and labels.max() >= classes:
        raise BuildError(
            f"its outputs have scores for {classes} classes, but the labels of the data need {labels.max() + 1}: give a model with a "
            "score for every label, or data with labels of its classes alone"
        )
    return ClassPredictions(
        labels=np.full(len(scores), -1, np.int64) if labels is None else labels,
        predicted=predicted_classes(scores),
        scores=scores,
        texts=tuple(prepared.excerpts()),
        slices=prepared.slices(),
    )
