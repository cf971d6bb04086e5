"""The evaluation data of a search in two: a part to choose on, and a part that only the final run sees.

Of a generator the windows of text are divided, and with them the prompts whose references they hold; prompts without references, on
which nothing is chosen, are the same in both parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import ConfigError, InputError
from ..optimize.files import sha256_of_json, write_json
from .needed import CHANGED_SHARE
from .stats import tango_bounds
from .workloads.base import Prepared, array_file
from .workloads.prompts import Prompts
from .workloads.raw_inputs import FOLDER as RAW

SAMPLE = 512
"""So many examples tell of a layer alone: all of them are asked of the variants that the rollback tries."""
_LEAST_EXAMPLES = 40
_LEAST_WINDOWS = 8


@dataclass(frozen=True)
class Parts:
    """The workload in parts; `sample` holds the first examples of `choosing`, of every class its share; of a generator all."""

    choosing: Prepared
    sample: Prepared
    judging: Prepared

    @property
    def has_sample(self) -> bool:
        """Whether the sample is less than the choosing part."""
        return self.sample is not self.choosing


def split(prepared: Prepared, folder: Path, seed: int, sample: int = SAMPLE) -> Parts:
    """Draw half of the examples of each class, or of a generator's windows, into the choosing part, the others into the judging part.

    Raises:
        ConfigError: there is no data, or a classifier's has no labels.
        InputError: there are too few examples to divide.
    """
    random = np.random.default_rng(seed)
    if prepared.kind == "decoder":
        return _split_windows(prepared, folder, random)
    labels = _labels(prepared)
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    chosen, judged = by_class[::2], np.sort(by_class[1::2])
    count = min(sample, len(chosen))
    sampled = chosen[np.arange(count) * len(chosen) // count]
    ordered = np.concatenate([np.sort(sampled), np.setdiff1d(chosen, sampled)])
    notice = f"Searched: judged on {len(judged):,} examples that the search did not choose on; it chose on {len(chosen):,} others."
    choosing = part_of(prepared, ordered, folder / "choosing")
    return Parts(
        choosing=choosing,
        sample=choosing if count == len(chosen) else part_of(prepared, ordered[:count], folder / "sample"),
        judging=part_of(prepared, judged, folder / "judging", (*prepared.notices, notice)),
    )


def _split_windows(prepared: Prepared, folder: Path, random: np.random.Generator) -> Parts:
    count = prepared.examples
    if count < _LEAST_WINDOWS:
        raise InputError(
            f"search divides the windows of text in two, and {count} are too few for that: give at least {_LEAST_WINDOWS}, by "
            "more text, more rows of a table, a smaller workload.window or more max_examples"
        )
    shuffled = random.permutation(count)
    answered = np.isin(np.arange(count), Prompts.read(prepared.folder).windows)
    by_answered = shuffled[np.argsort(answered[shuffled], kind="stable")]
    chosen, judged = np.sort(by_answered[::2]), np.sort(by_answered[1::2])
    notice = f"Searched: of all windows of text {len(chosen)} were chosen on, and what this run says is of the other {len(judged)} alone."
    choosing = windows_part_of(prepared, chosen, folder / "choosing")
    return Parts(choosing, choosing, windows_part_of(prepared, judged, folder / "judging", (*prepared.notices, notice)))


def _labels(prepared: Prepared) -> NDArray[np.int64]:
    labels = prepared.labels()
    if labels is None:
        raise ConfigError("search needs labels: set [workload] data to a file with labels, or labels to a file of them")
    if len(labels) < _LEAST_EXAMPLES:
        raise InputError(
            f"search divides the evaluation data in two, and {len(labels)} examples are too few for that: "
            f"give at least {_LEAST_EXAMPLES}, better some thousand"
        )
    return labels


def part_of(prepared: Prepared, rows: NDArray[np.int64], folder: Path, notices: Sequence[str] = ()) -> Prepared:
    """Write a workload that holds these evaluation rows, in this order, and the same calibration data."""
    evaluation = folder / "evaluation"
    for length in prepared.lengths:
        (evaluation / str(length)).mkdir(parents=True)
        for name, array in prepared.arrays("evaluation", length).items():
            np.save(array_file(evaluation / str(length), name), array[rows])
    labels = prepared.labels()
    if labels is not None:
        np.save(evaluation / "labels.npy", labels[rows])
    excerpts = prepared.excerpts()
    write_json(evaluation / "excerpts.json", [excerpts[row] for row in rows])
    if (prepared.folder / RAW).is_dir():
        (folder / RAW).symlink_to(
            prepared.folder / RAW, target_is_directory=True
        )  # how long they take is no choice's secret
    if prepared.calibration_sha256 is not None:
        (folder / "calibration").symlink_to(prepared.folder / "calibration", target_is_directory=True)
    part = _written(prepared, rows, folder, notices)
    part.write_slices({name: [values[row] for row in rows] for name, values in prepared.slices().items()})
    return part


def windows_part_of(prepared: Prepared, rows: NDArray[np.int64], folder: Path, notices: Sequence[str] = ()) -> Prepared:
    """Write a generator's workload that scores these windows, with their prompts, or all, and the same timed ones and calibration data."""
    scoring = folder / "scoring"
    (scoring / "0").mkdir(parents=True)
    for name, array in prepared.arrays("scoring", 0).items():
        np.save(array_file(scoring / "0", name), array[rows])
    np.save(scoring / "bytes.npy", np.load(prepared.folder / "scoring" / "bytes.npy")[rows])
    Prompts.read(prepared.folder).write_part(folder, rows)
    for name in ("evaluation", *(("calibration",) if prepared.calibration_sha256 is not None else ())):
        (folder / name).symlink_to(prepared.folder / name, target_is_directory=True)
    return _written(prepared, rows, folder, notices)


def _written(prepared: Prepared, rows: NDArray[np.int64], folder: Path, notices: Sequence[str]) -> Prepared:
    part = replace(
        prepared,
        folder=folder,
        examples=len(rows),
        data_sha256=sha256_of_json([prepared.data_sha256, rows.tolist()]),
        notices=tuple(notices),
    )
    part.write()
    return part


def expected_sentence(examples: int, alpha: float) -> str:
    """How wide the interval of the judging part is to be expected, where 2 % of the answers change, half of them for the better."""
    changed = CHANGED_SHARE * examples / 2
    low, high = tango_bounds(changed, changed, examples, alpha, alpha)
    return (
        f"With {CHANGED_SHARE:.0%} of the answers changed, as many for better as for worse, {examples:,} judging examples would "
        f"bound the difference of accuracies to {100 * low:+.2f} and {100 * high:+.2f} points."
    )
