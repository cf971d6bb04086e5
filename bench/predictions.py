"""What every variant answered on the same examples: written once, the ground of all quality metrics."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import InputError
from ..optimize.files import replacing
from .quality import Estimate, are_probabilities, estimates

FILE = "predictions.parquet"
_SLICE = "slice."

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class ClassPredictions:
    """A classifier's answers: labels (-1: none) and predictions, shape (examples,); scores (examples, classes).

    `slices` are the data columns that rules may judge within: by name, each example's value. `as_they_are` says whether the
    scores are probabilities, where the array alone would not tell: a part of the examples is read as the whole is.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    scores: NDArray[np.float32]
    texts: tuple[str, ...]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    as_they_are: bool | None = None

    @property
    def labelled(self) -> bool:
        """Whether the examples have labels."""
        return bool((self.labels >= 0).all())

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is the label."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    @cached_property
    def quality(self) -> dict[str, Estimate]:
        """The metrics of quality.py that are defined here, by name; none without labels."""
        return (
            estimates(self.labels, self.predicted, self.scores, as_they_are=self.as_they_are) if self.labelled else {}
        )

    @cached_property
    def sliced(self) -> dict[str, "ClassPredictions"]:
        """The answers within each value of each kept column, by `column=value`."""
        as_they_are = are_probabilities(self.scores)
        return {
            f"{column}={value}": self._within(np.array(values) == value, as_they_are)
            for column, values in self.slices.items()
            for value in sorted(set(values))
        }

    def _within(self, chosen: NDArray[np.bool_], as_they_are: bool) -> "ClassPredictions":
        texts = tuple(text for text, inside in zip(self.texts, chosen, strict=True) if inside)
        labels, predicted, scores = self.labels[chosen], self.predicted[chosen], self.scores[chosen]
        return ClassPredictions(labels, predicted, scores, texts, as_they_are=as_they_are)


@dataclass(frozen=True)
class WindowScores:
    """A generator's likelihoods on the same windows of text.

    Attributes:
        nll: summed -ln p of the scored tokens of each window, shape (windows,).
        tokens: scored tokens of each window, shape (windows,).
        bytes: UTF-8 bytes of the text that they stand for, shape (windows,); a token that is a later piece of a character
            stands for none. None where all stand for none, and in runs of before these were counted.
        divergences: KL(baseline || this variant) in nats at places of each window, an array a window, empty where none of its
            places was taken; None for the baseline itself.
    """

    nll: NDArray[np.float64]
    tokens: NDArray[np.float64]
    bytes: NDArray[np.float64] | None = None
    divergences: tuple[NDArray[np.float64], ...] | None = None


def predicted_classes(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class of each row of scores (examples, classes): the highest score.

    A single score a row is a binary model's: a probability above 0.5 where all scores lie in [0, 1], else a logit above 0.
    """
    if scores.shape[1] > 1:
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)
    single = scores[:, 0]
    threshold = 0.5 if single.min() >= 0 and single.max() <= 1 else 0.0
    return np.asarray(single > threshold, dtype=np.int64)


def write_class_predictions(run_folder: Path, answers: dict[str, ClassPredictions]) -> None:
    """Write the answers of every variant, one row an example and variant."""
    import pyarrow

    def lists(scores: NDArray[np.float32]) -> Any:
        return pyarrow.ListArray.from_arrays(
            np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1], scores.ravel()
        )

    write_tables(
        run_folder / FILE,
        (
            {
                "variant": [name] * len(each.labels),
                "example": np.arange(len(each.labels)),
                "label": each.labels,
                "prediction": each.predicted,
                "scores": lists(each.scores),
                "text": list(each.texts),
                **{f"{_SLICE}{column}": list(values) for column, values in each.slices.items()},
            }
            for name, each in answers.items()
        ),
    )


def write_window_scores(run_folder: Path, scores: dict[str, WindowScores]) -> None:
    """Write the window scores of every variant, one row a window and variant."""
    write_tables(
        run_folder / FILE,
        (
            {
                "variant": [name] * len(each.nll),
                "example": np.arange(len(each.nll)),
                "nll": each.nll,
                "tokens": each.tokens,
                "bytes": [None] * len(each.nll) if each.bytes is None else each.bytes,
                "divergences": [None] * len(each.nll) if each.divergences is None else list(each.divergences),
            }
            for name, each in scores.items()
        ),
    )


def read_class_predictions(run_folder: Path) -> dict[str, ClassPredictions]:
    """Read the classifiers' answers by variant; empty where the run has none.

    Raises:
        InputError: the file is damaged.
    """
    found = read_each(run_folder / FILE, "label", _class_predictions)
    kept = list(found.values())
    if any(each.slices != kept[0].slices or not np.array_equal(each.labels, kept[0].labels) for each in kept):
        raise InputError(
            f"{run_folder / FILE} cannot be read as predictions (the variants did not answer the same examples); the run folder "
            "is damaged"
        )
    return found


def _class_predictions(table: Any) -> ClassPredictions:
    answers = ClassPredictions(
        labels=np.array(table["label"].to_pylist(), dtype=np.int64),
        predicted=np.array(table["prediction"].to_pylist(), dtype=np.int64),
        scores=np.stack(table["scores"].to_numpy(zero_copy_only=False)).astype(np.float32),
        texts=texts_of(table["text"]),
        slices={
            column.removeprefix(_SLICE): texts_of(table[column])
            for column in table.column_names
            if column.startswith(_SLICE)
        },
    )
    classes = max(2, *answers.scores.shape[1:])
    for what, found, least in (("label", answers.labels, -1), ("prediction", answers.predicted, 0)):
        if found.min() < least or found.max() >= classes:
            raise ValueError(f"a {what} is none of the {classes} classes that there are scores for")
    return answers


def read_window_scores(run_folder: Path) -> dict[str, WindowScores]:
    """Read the generators' window scores by variant; empty where the run has none.

    Raises:
        InputError: the file is damaged.
    """
    return read_each(run_folder / FILE, "nll", _window_scores)


def _window_scores(table: Any) -> WindowScores:
    scores = WindowScores(
        nll=table["nll"].to_numpy().astype(np.float64),
        tokens=table["tokens"].to_numpy().astype(np.float64),
        bytes=_where_known(table, "bytes", lambda values: np.array(values, dtype=np.float64)),
        divergences=_where_known(
            table, "divergences", lambda lists: tuple(np.array(each, dtype=np.float64) for each in lists)
        ),
    )
    if any(each.ndim != 1 for each in (scores.nll, scores.tokens, *(scores.divergences or ()))):
        raise ValueError("a column holds lists, or none, where the other is meant")
    stood_for = np.zeros(0) if scores.bytes is None else scores.bytes
    if not all(np.isfinite(each).all() for each in (scores.nll, scores.tokens, stood_for, *(scores.divergences or ()))):
        raise ValueError("a likelihood or count is not a finite number")
    if scores.tokens.min() <= 0 or (stood_for < 0).any():
        raise ValueError("a window has no tokens, or fewer than no bytes")
    return scores if stood_for.any() else replace(scores, bytes=None)


def _where_known(table: Any, column: str, made: Callable[[list[Any]], _Made]) -> _Made | None:
    """What is made of a column; None where the file lacks it or a value of it."""
    values = table[column].to_pylist() if column in table.column_names else [None]
    return None if None in values else made(values)


def write_tables(path: Path, parts: Iterable[Mapping[str, Any]]) -> None:
    """Write the columns of each variant one below the other; nothing where there are none.

    Parts are taken one by one, so that as Python objects only one variant's rows are in memory.
    """
    import pyarrow
    import pyarrow.parquet

    tables = [pyarrow.table(dict(part)) for part in parts]
    if not tables:
        return
    whole = pyarrow.concat_tables(tables, promote_options="permissive")
    with replacing(path) as partial:
        pyarrow.parquet.write_table(whole, partial, write_page_checksum=True)


def read_each(path: Path, needed: str, made: Callable[[Any], _Made]) -> dict[str, _Made]:
    """What is made of the rows of each variant, an Arrow table; nothing without a file or where `needed` is no column of it.

    Raises:
        InputError: the file is damaged (each page has a checksum), lacks a column, or `made` finds a value that cannot be.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    if not path.is_file():
        return {}
    try:
        table = pyarrow.parquet.read_table(path, page_checksum_verification=True)
        if needed not in table.column_names:
            return {}
        names = dict.fromkeys(texts_of(table["variant"]))
        rows = {name: table.filter(pyarrow.compute.equal(table["variant"], name)) for name in names}
        found = {name: made(each) for name, each in rows.items()}
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} cannot be read as predictions ({error}); the run folder is damaged") from error
    if len({each.num_rows for each in rows.values()}) > 1:
        raise InputError(
            f"{path} cannot be read as predictions (the variants did not answer the same examples); the run folder is damaged"
        )
    return found


def texts_of(column: Any) -> tuple[str, ...]:
    """A column of texts; raises a ValueError where one is missing or none."""
    texts = tuple(column.to_pylist())
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text is missing")
    return texts
