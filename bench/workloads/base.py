"""A prepared workload: everything that is weighed, as plain arrays in a folder.

A child process prepares it (tokenizes, decodes, trains a built-in model on first use); the parent and the workers only
read arrays, so that the parent holds no model and no worker tokenizes, but for the time from end to end.

    prepared.json
    evaluation/<length>/<input>.npy   first axis: examples; <length> is the sequence or prompt length, 0 where there is none;
                                      <input> is percent-encoded
    evaluation/labels.npy             int64, absent where there are no labels
    evaluation/excerpts.json          a list of short texts to recognise an example by (may be empty strings)
    evaluation/slices.json            data columns that rules may judge within: column -> a value for each example
    calibration/...                   the same, absent where no calibration data was given
    scoring/0/<input>.npy             generators: the windows on which perplexity is computed, and which tokens are scored
    scoring/bytes.npy                 generators: UTF-8 bytes of the scored text of each window
    generation/...                    generators: the prompts that are answered in full, and their tokenizer (prompts.py)
    raw/...                           classifiers timed from end to end: rows as they are brought (raw_inputs.py)
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError
from ...optimize.files import sha256_of_file, sha256_of_json, write_json
from ...optimize.model import Batch, Kind, Signature
from ...optimize.source import Source, Task

PREPARED = "prepared.json"
_SUFFIX = ".npy"
_LONGEST_NAME = 200
_MOST_NUMBERS = 2**30
Part = Literal["evaluation", "calibration", "scoring"]


@dataclass(frozen=True)
class Prepared:
    """What a workload is, with its arrays in `folder`.

    Attributes:
        folder: where the arrays are.
        name: the workload's name.
        task: what the model is for.
        kind: classifier or decoder.
        source: the trained model.
        class_names: names of the classes in the order of the model's scores; empty for decoders.
        lengths: the sequence (prompt) lengths that are encoded; (0,) where the task has none.
        examples: number of evaluation examples.
        drawn: True where inputs were drawn at random because no data was given.
        fixed_batch: the only batch size that the model takes, or None.
        data_sha256: hash of the evaluation arrays and labels.
        calibration_sha256: hash of the calibration arrays and labels, None where there are none.
        notices: sentences that a reader of the report should see.
    """

    folder: Path
    name: str
    task: Task
    kind: Kind
    source: Source
    class_names: tuple[str, ...]
    lengths: tuple[int, ...]
    examples: int
    drawn: bool
    fixed_batch: int | None
    data_sha256: str
    calibration_sha256: str | None
    notices: tuple[str, ...] = ()

    @property
    def calibration_length(self) -> int:
        """The length under which the calibration arrays stand: the longest, or 0 for a decoder's windows of text."""
        return 0 if self.kind == "decoder" else max(self.lengths)

    def arrays(self, part: Part, length: int) -> dict[str, NDArray[Any]]:
        """Return the named arrays of a part, memory-mapped."""
        folder = self.folder / part / str(length)
        paths = sorted(folder.glob(f"*{_SUFFIX}"))
        return {unquote(path.name.removesuffix(_SUFFIX)): np.load(path, mmap_mode="r") for path in paths}

    def labels(self, part: Part = "evaluation") -> NDArray[np.int64] | None:
        """Return the labels of a part, shape (examples,), or None where it has none."""
        path = self.folder / part / "labels.npy"
        return np.load(path) if path.is_file() else None

    def excerpts(self) -> list[str]:
        """Return a short text for each evaluation example; empty strings where there is none."""
        path = self.folder / "evaluation" / "excerpts.json"
        if not path.is_file():
            return [""] * self.examples
        excerpts: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return excerpts

    def slices(self) -> dict[str, tuple[str, ...]]:
        """Return the data columns kept for slices, each with a value for each evaluation example."""
        path = self.folder / "evaluation" / "slices.json"
        if not path.is_file():
            return {}
        kept: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
        return {column: tuple(values) for column, values in kept.items()}

    def write_slices(self, slices: Mapping[str, Sequence[str]]) -> None:
        """Write what `slices` reads; nothing where no column is kept."""
        if slices:
            write_json(
                self.folder / "evaluation" / "slices.json", {name: list(values) for name, values in slices.items()}
            )

    def write(self) -> None:
        """Write prepared.json beside the arrays; the last thing that preparing does."""
        data = {**asdict(self), "source": self.source.to_dict()}
        del data["folder"]
        write_json(self.folder / PREPARED, data)

    @staticmethod
    def read(folder: Path) -> "Prepared":
        """Read what `write` wrote."""
        data = json.loads((folder / PREPARED).read_text(encoding="utf-8"))
        tuples = {key: tuple(data[key]) for key in ("class_names", "lengths", "notices")}
        return Prepared(**{**data, **tuples, "folder": folder, "source": Source.from_dict(data["source"])})


def array_file(folder: Path, name: str) -> Path:
    """Where the array of an input lies: whatever a model calls its inputs, the file stays in the folder.

    Raises:
        InputError: the name is too long for a file.
    """
    quoted = quote(name, safe="")
    if len(quoted) > _LONGEST_NAME:
        raise InputError(f"the model's input '{name[:40]}...' has a name of {len(name)} letters; give it a shorter one")
    return folder / f"{quoted}{_SUFFIX}"


def need_room(signature: Signature, examples: int) -> None:
    """Check that so many examples, or one batch where the model fixes a larger one, can be held as arrays.

    Raises:
        InputError: they would be larger than any real input.
    """
    for spec in signature.inputs:
        sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
        numbers = max(examples, spec.fixed_batch or 1) * math.prod(sizes)
        if numbers > _MOST_NUMBERS:
            raise InputError(
                f"the model's input '{spec.name}' has shape {spec.shape}: that is {numbers:,} numbers, more than can be held; "
                "export the model with the shape that it is used with, or give data"
            )


def hash_of_arrays(folder: Path) -> str:
    """The hash of every array file below a folder."""
    return sha256_of_json(
        [[str(path.relative_to(folder)), sha256_of_file(path)] for path in sorted(folder.rglob("*.npy"))]
    )


def rows(arrays: dict[str, NDArray[Any]], start: int, size: int) -> Batch:
    """Return `size` rows from `start`, going round at the end, as contiguous arrays."""
    total = len(next(iter(arrays.values())))
    index = np.arange(start, start + size) % total
    return {name: np.ascontiguousarray(array[index]) for name, array in arrays.items()}


def batches(arrays: dict[str, NDArray[Any]], size: int) -> Iterator[Batch]:
    """Give every row once, in order, `size` at a time; the last batch may be smaller."""
    total = len(next(iter(arrays.values())))
    for start in range(0, total, size):
        yield {name: np.ascontiguousarray(array[start : start + size]) for name, array in arrays.items()}
