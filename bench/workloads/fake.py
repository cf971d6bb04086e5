"""The workload of a fake model: rows that name their own class, so that every accuracy is known beforehand."""

from pathlib import Path

import numpy as np

from ...optimize.backends.fake_backend import read_behaviour
from ...optimize.errors import InputError, one_of
from ...optimize.files import sha256_of_file
from ...optimize.source import Source
from ..config import WorkloadConfig
from .base import Prepared

_EXAMPLES = 300
_CALIBRATION = 50
_COLUMNS = {"parity": ("even", "odd"), "third": ("first", "second", "third")}
"""Columns to slice by: each gives row number r its value of place r modulo their count."""


def prepare_fake(config: WorkloadConfig, path: Path, folder: Path) -> Prepared:
    """Write evaluation and calibration rows for the fake model described in `path`.

    Raises:
        InputError: the behaviour file is missing or describes something else, or the rows lack a column for slices.
    """
    for name in config.columns.slices:
        if name not in _COLUMNS:
            raise InputError(f"the fake workload: {one_of('column', name, _COLUMNS)}")
    behaviour = read_behaviour(path)
    examples = min(_EXAMPLES, config.max_examples or _EXAMPLES)
    for part, first, count in (("evaluation", 0, examples), ("calibration", _EXAMPLES, _CALIBRATION)):
        numbers = np.arange(first, first + count)
        labels = numbers % behaviour.classes
        (folder / part / "0").mkdir(parents=True)
        np.save(folder / part / "0" / "x.npy", np.stack([labels, numbers], axis=1).astype(np.float32))
        np.save(folder / part / "labels.npy", labels.astype(np.int64))
    prepared = Prepared(
        folder=folder,
        name=config.name,
        task="tabular-classification",
        kind="classifier",
        source=Source("fake", str(path), "tabular-classification", sha256_of_file(path)),
        class_names=tuple(f"class-{number}" for number in range(behaviour.classes)),
        lengths=(0,),
        examples=examples,
        drawn=False,
        fixed_batch=None,
        data_sha256=f"fake-{examples}",
        calibration_sha256="fake-calibration",
    )
    slices = {
        name: [_COLUMNS[name][row % len(_COLUMNS[name])] for row in range(examples)] for name in config.columns.slices
    }
    prepared.write_slices(slices)
    prepared.write()
    return prepared
