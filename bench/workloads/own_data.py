"""What a user brings to a built-in workload instead of its own data and model: held to what it takes, read, and split."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...optimize.errors import ConfigError, InputError
from ..config import Preprocess, WorkloadConfig
from . import builtin, builtin_names
from .builtin import Builtin, Request
from .data import TABLES, Rows, kind_of
from .generator import text_of
from .given import calibration_file, read_calibration, read_evaluation

_EVALUATED = 0.2
_LEAST_OF_A_CLASS = 5
"""So that a fifth of them is one at least."""
_LEAST_CLASSES = 2
_SHOWN = 8


@dataclass(frozen=True)
class Own:
    """The request that own data and an own model make, what a reader should be told of it, and a generator's own table of prompts."""

    request: Request
    notice: str = ""
    table: Path | None = None


def check_builtin(config: WorkloadConfig) -> Builtin:
    """The built-in workload of a config, which is held to what that workload takes.

    Raises:
        ConfigError: there is no such workload, it does not start from a model, it is for another task, or something is given
            that it brings itself or that belongs to data that is not given.
    """
    chosen = builtin(str(config.builtin))
    if config.model is not None and not chosen.takes_model:
        takers = ", ".join(name for name in builtin_names() if builtin(name).takes_model)
        raise ConfigError(
            f"workload.model: {chosen.name} is trained from nothing; only {takers} start from a model. "
            "Remove model; or remove builtin, to weigh the model itself"
        )
    if config.task not in (None, chosen.task):
        raise ConfigError(f"workload.task is {config.task}, but {chosen.name} is for {chosen.task}; remove task")
    if config.tokenizer is not None or config.preprocess != Preprocess():
        what = "preprocess" if config.tokenizer is None else "tokenizer"
        raise ConfigError(f"workload.{what}: {chosen.name} brings its own; remove {what}")
    _need_whole_files(config)
    return chosen


def _need_whole_files(config: WorkloadConfig) -> None:
    """Refuse files that belong to another one which is not given."""
    for name, of in (("labels", "data"), ("calibration", "data"), ("calibration_labels", "calibration")):
        if getattr(config, name) is not None and getattr(config, of) is None:
            raise ConfigError(
                f"workload.{name} belongs to workload.{of}, which is not given; give both, or neither to take the data of "
                f"{config.builtin}"
            )


def own_data(config: WorkloadConfig, base: Path) -> Own:
    """Read what the config brings to its built-in workload; relative paths are meant against `base`.

    `data` is evaluated, `calibration` is trained on. Where only `data` is given, a fifth of it is evaluated and the rest
    trained on: of labelled rows a seeded draw with the same share of each class, of a text its end. A table of prompts is not
    trained on.

    Raises:
        ConfigError: as `check_builtin`.
        InputError: the files are damaged, or there is nothing that could be learnt from them.
    """
    chosen = check_builtin(config)
    model = None
    if config.model is not None:
        model = str(base / config.model) if (base / config.model).exists() else config.model
    if config.data is None:
        return Own(Request(config.seed, model=model))
    if chosen.task == "text-generation":
        return _own_text(config, base, model)
    training, evaluation = read_calibration(config, chosen.task, base), read_evaluation(config, chosen.task, base)
    notice = ""
    if training is None:
        _need_classes(evaluation, f"data {config.data}", _LEAST_OF_A_CLASS)
        training, evaluation = _split(evaluation, config.seed)
        notice = (
            f"{chosen.name} was trained on {len(training)} rows of {config.data} and is evaluated on the other "
            f"{len(evaluation)}, drawn by workload.seed with the same share of each class."
        )
    _need_classes(training, f"calibration {config.calibration}", 1)
    _need_alike(training, evaluation)
    return Own(Request(config.seed, training=training, evaluation=evaluation, model=model), notice)


def _need_classes(rows: Rows, what: str, least: int) -> None:
    """Hold rows to what can be learnt: labelled, of two classes at least, with so many rows of each."""
    if rows.labels is None:
        raise InputError(
            f"{what} has no labels to learn from; name their column in workload.columns, or their file in labels "
            "(calibration_labels)"
        )
    counts = Counter(rows.labels)
    if len(counts) < _LEAST_CLASSES:
        raise InputError(f"{what} has one label only ({next(iter(counts))}); at least two classes can be told apart")
    rare, found = min(counts.items(), key=lambda item: (item[1], item[0]))
    if found < least:
        raise InputError(
            f"{what} has {found} row{'s' if found > 1 else ''} of class '{rare}', and needs {least} of each to be split into "
            "training and evaluation; give more, leave the class out, or give the training rows as workload.calibration"
        )


def _split(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and to evaluate, each with the same share of every class, in the order of the file."""
    from sklearn.model_selection import train_test_split

    parts = train_test_split(np.arange(len(rows)), test_size=_EVALUATED, random_state=seed, stratify=rows.labels)
    training, evaluation = (rows.take(np.sort(part)) for part in parts)
    return training, evaluation


def _need_alike(training: Rows, evaluation: Rows) -> None:
    """Refuse labels that were never learnt, and values of another shape."""
    learnt = sorted(set(training.labels or ()))
    unknown = sorted(set(evaluation.labels or ()) - set(learnt))
    if unknown:
        raise InputError(
            f"the data has labels that are not in the training data: {', '.join(unknown[:_SHOWN])}; there they are "
            f"{', '.join(learnt[:_SHOWN])}{', ...' if len(learnt) > _SHOWN else ''}"
        )
    shapes = [rows.values.shape[1:] for rows in (training, evaluation) if rows.values is not None]
    if len(set(shapes)) > 1:
        raise InputError(
            f"the training data has rows of shape {shapes[0]}, the data to evaluate rows of shape {shapes[1]}; give both alike"
        )


def _own_text(config: WorkloadConfig, base: Path, model: str | None) -> Own:
    """Text to train a generator on and to evaluate."""
    data, calibration = base / str(config.data), calibration_file(config, base)
    text, notice = text_of(data, config.columns), ""
    table = data if kind_of(data) in TABLES else None
    if calibration is not None:
        training = text_of(calibration, config.columns)
    elif table is not None:
        notice = f"{config.builtin} was trained on its own texts: the prompts of {config.data} are only evaluated."
        return Own(Request(config.seed, model=model), notice, table)
    else:
        training, text = _cut(text)
        notice = (
            f"{config.builtin} was trained on the first {len(training)} characters of {config.data} and is evaluated on the "
            f"other {len(text)}."
        )
    request = Request(config.seed, training_text=training, evaluation_text=text, model=model)
    return Own(request, notice, table)


def _cut(text: str) -> tuple[str, str]:
    """The first four fifths of a text, to the end of a line where there is one, and the rest."""
    most = int(len(text) * (1 - _EVALUATED))
    end = text.rfind("\n", 0, most) + 1 or most
    return text[:end], text[end:]
