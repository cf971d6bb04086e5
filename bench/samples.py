"""Raw samples: recorded call by call, kept as parquet a replicate, never dropped or smoothed."""

import functools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import InputError
from ..optimize.files import replacing
from .metrics import END_TO_END, Calls, Conditions
from .sample_table import COLUMNS, FOLDER, read_sample_table, sample_files

CONTROL = "<control>"
"""The name under which the baseline's twin is weighed; no variant's name can contain these brackets."""

_TIMED = ("timed", "prefill", "decode", END_TO_END)
_AS_RAW = {"first": "warmup", "timed": END_TO_END}
"""Phases of calls that start from raw inputs, by what they are among themselves; the process's first call is the model's own."""


def key_of(conditions: Conditions) -> str:
    """The conditions as canonical JSON: one text for equal conditions."""
    return json.dumps(dict(sorted(conditions.items())), separators=(",", ":"))


@functools.cache
def _model_key(shape: str) -> tuple[str, bool]:
    """The key of the shape at which the model is called, and whether these calls start from raw inputs."""
    if END_TO_END not in shape:
        return shape, False
    return key_of({name: value for name, value in json.loads(shape).items() if name != END_TO_END}), True


@functools.cache
def _raw_key(shape: str) -> str:
    """The key under which calls that start from raw inputs are weighed at a shape."""
    return key_of({**json.loads(shape), END_TO_END: 1})


@dataclass
class Recorder:
    """The rows of one replicate, as they are taken."""

    replicate: int
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    _call: int = 0

    def add(
        self,
        calls: Sequence[Sequence[float]],
        phases: Sequence[str],
        *,
        variant: str,
        shape: str,
        round_: int,
        visit: int,
    ) -> None:
        """Add the calls of one visit; `phases` names the phase of each. A timed request keeps its tokens apart.

        Calls that start from raw inputs are told by their phase, under the conditions of the model's own calls.
        """
        shape, raw = _model_key(shape)
        for parts, named in zip(calls, phases, strict=True):
            phase = _AS_RAW.get(named, named) if raw else named
            self._call += 1
            if phase != "timed" or len(parts) == 1:
                self._row(phase, sum(parts), variant, shape, round_, visit)
                continue
            for index, part in enumerate(parts):
                self._row("decode" if index else "prefill", part, variant, shape, round_, visit)

    def _row(self, phase: str, milliseconds: float, variant: str, shape: str, round_: int, visit: int) -> None:
        row = (self.replicate, round_, visit, self._call, phase, variant, shape, milliseconds)
        for name, value in zip(COLUMNS, row, strict=True):
            self.columns[name].append(value)

    def write(self, run_folder: Path) -> Path:
        """Write the replicate's parquet file, whole or not at all."""
        import pyarrow
        import pyarrow.parquet

        path = run_folder / FOLDER / f"replicate-{self.replicate:03d}.parquet"
        with replacing(path) as partial:
            pyarrow.parquet.write_table(pyarrow.table(self.columns), partial, write_page_checksum=True)
        return path


@dataclass(frozen=True)
class Replicate:
    """The samples of one replicate by (variant, shape key): timed calls, the round of each, and first calls.

    Calls that start from raw inputs stand under a shape of their own, which has the key END_TO_END too.
    """

    number: int
    timed: dict[tuple[str, str], Calls]
    first: dict[tuple[str, str], float]
    rounds: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)
    by_round: dict[tuple[str, str, str], dict[int, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Values of visits by round that were computed already, by metric, variant and conditions: every look asks for them again."""
    _beside: dict[str, "Replicate"] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of(columns: dict[str, list[Any]]) -> "Replicate":
        """Sort the rows of one replicate by variant and shape."""
        parts: dict[tuple[str, str], dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
        first: dict[tuple[str, str], float] = {}
        names = ("phase", "variant", "conditions", "round", "call", "milliseconds")
        for phase, variant, shape, round_, call, milliseconds in zip(*(columns[name] for name in names), strict=True):
            if phase in _TIMED:
                key = _raw_key(shape) if phase == END_TO_END else shape
                parts[variant, key][round_, call].append(milliseconds)
            elif phase == "first":
                first[variant, shape] = milliseconds
        timed = {key: np.array(list(calls.values()), dtype=np.float64) for key, calls in parts.items()}
        rounds = {key: np.array([round_ for round_, _ in calls], dtype=np.int64) for key, calls in parts.items()}
        return Replicate(columns["replicate"][0] if columns["replicate"] else 0, timed, first, rounds)

    def visits(self, variant: str, shape: str) -> dict[int, Calls]:
        """The timed calls of each visit, by round."""
        calls, rounds = self.timed[variant, shape], self.rounds[variant, shape]
        return {int(each): calls[rounds == each] for each in np.unique(rounds)}

    def beside(self, variant: str) -> "Replicate":
        """This replicate with those calls of all others alone that lie in rounds which `variant` took part in too.

        Variants that do not fit in memory together are weighed in groups, each beside visits of the baseline of its own. Of who
        shares no round with it, a candidate of another group, nothing is left out.
        """
        if variant not in self._beside:
            self._beside[variant] = self._within_rounds_of(variant)
        return self._beside[variant]

    def _within_rounds_of(self, variant: str) -> "Replicate":
        own = {shape: rounds for (name, shape), rounds in self.rounds.items() if name == variant}
        shared = {
            key: np.isin(rounds, own[key[1]])
            for key, rounds in self.rounds.items()
            if key[1] in own and not np.array_equal(rounds, own[key[1]])
        }
        parts = {key: inside for key, inside in shared.items() if inside.any() and not inside.all()}
        if not parts:
            return self
        timed = {key: calls[parts[key]] if key in parts else calls for key, calls in self.timed.items()}
        rounds = {key: each[parts[key]] if key in parts else each for key, each in self.rounds.items()}
        return Replicate(self.number, timed, self.first, rounds)

    @staticmethod
    def pooled(replicates: Sequence["Replicate"]) -> "Replicate":
        """All timed calls of several replicates as if they were one's."""
        keys = dict.fromkeys(key for replicate in replicates for key in replicate.timed)
        timed = {key: np.concatenate([each.timed[key] for each in replicates if key in each.timed]) for key in keys}
        return Replicate(0, timed, {})


def read_replicates(run_folder: Path) -> list[Replicate]:
    """Read every replicate of a run, in order.

    Raises:
        InputError: a file is cut short or not of a run.
    """
    replicates = []
    for path in sample_files(run_folder):
        try:
            replicates.append(Replicate.of(read_sample_table(path).to_pydict()))
        except ValueError as error:
            raise InputError(f"{path} cannot be read as samples ({error}); the run folder is damaged") from error
    return replicates
