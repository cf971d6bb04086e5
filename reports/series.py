"""The numbers behind the charts: quantiles of raw samples, and the Pareto front."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bench.metrics import Conditions
from ..bench.sample_table import sample_files
from .rows import CONTROL
from .run_folder import read_samples

LEVELS: NDArray[np.float64] = np.linspace(0.005, 0.995, 100)
"""The quantiles that a distribution's curve is drawn through."""

_PHASES = {"timed": "latency", "prefill": "time to first token", "decode": "inter-token latency"}


@dataclass(frozen=True)
class Curve:
    """The distribution of one variant's timed calls at one shape: milliseconds at each of LEVELS, of `n` samples."""

    what: str
    variant: str
    conditions: Conditions
    milliseconds: tuple[float, ...]
    n: int


def curves(run_folder: Path) -> list[Curve]:
    """The distributions of all timed samples of a run, the control's left out.

    Raises:
        InputError: a samples file is damaged.
    """
    if not sample_files(run_folder):
        return []
    samples = read_samples(run_folder)
    phase, variant, conditions = (_codes(samples[name]) for name in ("phase", "variant", "conditions"))
    milliseconds = _array(samples["milliseconds"])
    found = []
    for code in np.unique(np.stack([phase.codes, variant.codes, conditions.codes]), axis=1).T:
        what, name, shape = (each.words[index] for each, index in zip((phase, variant, conditions), code, strict=True))
        if what not in _PHASES or name == CONTROL:
            continue
        mine = (phase.codes == code[0]) & (variant.codes == code[1]) & (conditions.codes == code[2])
        quantiles = tuple(np.quantile(milliseconds[mine], LEVELS).tolist())
        found.append(Curve(_PHASES[what], name, json.loads(shape), quantiles, int(mine.sum())))
    return found


@dataclass(frozen=True)
class _Codes:
    """A column of texts as numbers into the list of its words."""

    codes: NDArray[np.int32]
    words: list[str]


def _codes(column: Any) -> _Codes:
    """An Arrow column of texts, dictionary-encoded or not, as codes."""
    import pyarrow as pa

    whole = column.combine_chunks()
    encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    return _Codes(_array(encoded.indices), encoded.dictionary.to_pylist())


def _array(column: Any) -> NDArray[Any]:
    """An Arrow column of numbers as an array; by way of DLPack, for Arrow's own way loads pandas."""
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return np.from_dlpack(whole)


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto-optimal points by rising first coordinate; low is good in the first, high in the second.

    A point is on the front where no other is at least as good in both and better in one.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front
