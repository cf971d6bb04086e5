"""What every variant answered on the same examples: written once, the ground of all quality metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import InputError
from ..optimize.files import replacing
from .quality import Estimate, estimates

FILE = "predictions.parquet"
_SLICE = "slice."

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class ClassPredictions:
    """A classifier's answers: labels (-1: none) and predictions, shape (examples,); scores (examples, classes).

    `slices` are the data columns that rules may judge within: by name, each example's value.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    scores: NDArray[np.float32]
    texts: tuple[str, ...]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
        return estimates(self.labels, self.predicted, self.scores) if self.labelled else {}

    @cached_property
    def sliced(self) -> dict[str, "ClassPredictions"]:
        """The answers within each value of each kept column, by `column=value`."""
        return {
            f"{column}={value}": self._within(np.array(values) == value)
            for column, values in self.slices.items()
            for value in sorted(set(values))
        }

    def _within(self, chosen: NDArray[np.bool_]) -> "ClassPredictions":
        texts = tuple(text for text, inside in zip(self.texts, chosen, strict=True) if inside)
        return ClassPredictions(self.labels[chosen], self.predicted[chosen], self.scores[chosen], texts)


@dataclass(frozen=True)
class WindowScores:
    """A generator's likelihoods on the same windows of text.

    Attributes:
        nll: summed -ln p of the scored tokens of each window, shape (windows,).
        tokens: scored tokens of each window, shape (windows,).
        bytes: UTF-8 bytes of the text that they stand for, shape (windows,); None in runs of before these were counted.
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
    write_tables(
        run_folder / FILE,
        [
            {
                "variant": [name] * len(each.labels),
                "example": list(range(len(each.labels))),
                "label": each.labels.tolist(),
                "prediction": each.predicted.tolist(),
                "scores": list(each.scores),
                "text": list(each.texts),
                **{f"{_SLICE}{column}": list(values) for column, values in each.slices.items()},
            }
            for name, each in answers.items()
        ],
    )


def write_window_scores(run_folder: Path, scores: dict[str, WindowScores]) -> None:
    """Write the window scores of every variant, one row a window and variant."""
    write_tables(
        run_folder / FILE,
        [
            {
                "variant": [name] * len(each.nll),
                "example": list(range(len(each.nll))),
                "nll": each.nll.tolist(),
                "tokens": each.tokens.tolist(),
                "bytes": [None] * len(each.nll) if each.bytes is None else each.bytes.tolist(),
                "divergences": [None] * len(each.nll) if each.divergences is None else list(each.divergences),
            }
            for name, each in scores.items()
        ],
    )


def read_class_predictions(run_folder: Path) -> dict[str, ClassPredictions]:
    """Read the classifiers' answers by variant; empty where the run has none.

    Raises:
        InputError: the file is damaged.
    """
    return {
        name: ClassPredictions(
            labels=np.array(table["label"].to_pylist(), dtype=np.int64),
            predicted=np.array(table["prediction"].to_pylist(), dtype=np.int64),
            scores=np.stack(table["scores"].to_numpy(zero_copy_only=False)).astype(np.float32),
            texts=tuple(table["text"].to_pylist()),
            slices={
                column.removeprefix(_SLICE): tuple(table[column].to_pylist())
                for column in table.column_names
                if column.startswith(_SLICE)
            },
        )
        for name, table in read_tables(run_folder / FILE, "label")
    }


def read_window_scores(run_folder: Path) -> dict[str, WindowScores]:
    """Read the generators' window scores by variant; empty where the run has none.

    Raises:
        InputError: the file is damaged.
    """
    return {
        name: WindowScores(
            nll=table["nll"].to_numpy().astype(np.float64),
            tokens=table["tokens"].to_numpy().astype(np.float64),
            bytes=_where_known(table, "bytes", lambda values: np.array(values, dtype=np.float64)),
            divergences=_where_known(
                table, "divergences", lambda lists: tuple(np.array(each, dtype=np.float64) for each in lists)
            ),
        )
        for name, table in read_tables(run_folder / FILE, "nll")
    }


def _where_known(table: Any, column: str, made: Callable[[list[Any]], _Made]) -> _Made | None:
    """What is made of a column; None where the file lacks it or a value of it."""
    values = table[column].to_pylist() if column in table.column_names else [None]
    return None if None in values else made(values)


def write_tables(path: Path, parts: list[dict[str, list[Any]]]) -> None:
    """Write the columns of each variant one below the other; nothing where there are none."""
    import pyarrow
    import pyarrow.parquet

    if not parts:
        return
    whole = pyarrow.concat_tables([pyarrow.table(part) for part in parts], promote_options="permissive")
    with replacing(path) as partial:
        pyarrow.parquet.write_table(whole, partial)


def read_tables(path: Path, needed: str) -> list[tuple[str, Any]]:
    """The rows of each variant as an Arrow table, in the order of the file; none without a file or where `needed` is no column.

    Raises:
        InputError: the file is damaged.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    if not path.is_file():
        return []
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as predictions ({error}); the run folder is damaged") from error
    if needed not in table.column_names:
        return []
    names = list(dict.fromkeys(table["variant"].to_pylist()))
    return [(name, table.filter(pyarrow.compute.equal(table["variant"], name))) for name in names]
