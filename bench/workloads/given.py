"""The files that a config names, read as rows."""

from dataclasses import replace
from pathlib import Path

from ...optimize.errors import InputError
from ...optimize.source import Task
from ..config import WorkloadConfig
from .data import Rows, read_images, read_labels, read_texts, read_values


def read_evaluation(config: WorkloadConfig, task: Task, base: Path) -> Rows:
    """The rows to evaluate, with labels where there are any.

    Raises:
        InputError: the files are damaged or of another kind, have no rows, or not as many labels.
    """
    labels = base / config.labels if config.labels else None
    return _read(config, task, base / str(config.data), labels, sliced=True)


def read_calibration(config: WorkloadConfig, task: Task, base: Path) -> Rows | None:
    """The rows to calibrate (of a built-in workload: to train) on, None where the config names none.

    Raises:
        InputError: as of the rows to evaluate; or they are the same file.
    """
    calibration = calibration_file(config, base)
    if calibration is None:
        return None
    labels = base / config.calibration_labels if config.calibration_labels else None
    return _read(config, task, calibration, labels, sliced=False)


def calibration_file(config: WorkloadConfig, base: Path) -> Path | None:
    """The file of the calibration data, None where the config names none.

    Raises:
        InputError: it is the evaluation data.
    """
    calibration, data = base / config.calibration if config.calibration else None, base / str(config.data)
    if calibration is not None and calibration.resolve() == data.resolve():
        raise InputError(
            f"calibration and data are the same file {data}; calibrate on other rows, such as the training data"
        )
    return calibration


def _read(config: WorkloadConfig, task: Task, data: Path, labels: Path | None, *, sliced: bool) -> Rows:
    if task == "text-classification":
        rows = read_texts(data, config.columns, sliced=sliced)
    elif task == "image-classification":
        rows = read_images(data)
    else:
        rows = read_values(data, config.columns, sliced=sliced)
    if not len(rows):
        raise InputError(f"data {data} has no rows")
    if labels is not None:
        rows = replace(rows, labels=read_labels(labels))
    if rows.labels is not None and len(rows.labels) != len(rows):
        raise InputError(f"{labels or data} has {len(rows.labels)} labels for {len(rows)} rows of {data}")
    return rows
