"""Shared by the techniques' tests: applying a step to a model, and running what came out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from weighbridge.optimize.model import Batch, Examples, Model
from weighbridge.optimize.parity import open_model
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import StepResult, technique

Apply = Callable[..., StepResult]


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    """A function (model, name, data=(), **options) -> what the technique of that name returns."""

    def run(model: Model, name: str, data: tuple[Batch, ...] = (), **options: Any) -> StepResult:
        step = step_from_dict({"use": name, **options})
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        using = technique(name)
        heard = (lambda _: None,) if using.tells else ()
        return using.apply(model, step, Examples((), data), folder, *heard)

    return run


@pytest.fixture
def run_model() -> Callable[[Model, Batch], NDArray[Any]]:
    """A function (model, batch) -> the scores of a classifier."""

    def run(model: Model, batch: Batch) -> NDArray[Any]:
        opened: Any = open_model(model)
        return np.asarray(next(iter(opened.arrays(opened.infer(opened.load(batch))).values())))

    return run
