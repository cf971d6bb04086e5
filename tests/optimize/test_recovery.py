"""Recovery: the teacher of a classifier is asked for each row once; calibration data is read, never written."""

from typing import Any

import numpy as np
import pytest
import torch
from weighbridge.optimize import recovery
from weighbridge.optimize.model import Examples, Signature, TensorSpec, TorchModel
from weighbridge.optimize.recovery import AskedOnce, RecoveryConfig, learning_batches, recover
from weighbridge.optimize.training import TrainingConfig, TrainingReport

ROWS = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
SIDES = np.arange(6, dtype=np.int64)
SPECS = (TensorSpec("x", "float32", ("batch", 3)), TensorSpec("side", "int64", ("batch",)))


class Counting(torch.nn.Module):
    """Scores of two classes from two inputs; counts the rows that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: torch.Tensor, side: torch.Tensor) -> tuple[torch.Tensor]:
        self.rows += len(x)
        return (torch.stack([x.sum(dim=1) + side, x.prod(dim=1)], dim=1),)


def batch(places: list[int]) -> dict[str, torch.Tensor]:
    return {"x": torch.from_numpy(ROWS[places]), "side": torch.from_numpy(SIDES[places])}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 5], [1, 1, 4, 1]])
def test_a_row_is_asked_for_once_and_answered_alike(order: list[int]) -> None:
    """Whatever rows come again, in whatever order, the scores are the module's own, and no row reaches it twice."""
    module, alone = Counting(), Counting()
    asked = AskedOnce(module)
    for places in ([0, 1], order, order[::-1]):
        torch.testing.assert_close(asked(**batch(places)), alone(**batch(places))[0])
    assert module.rows == len({0, 1, *order})


def test_rows_that_differ_in_one_input_are_two() -> None:
    """Two rows with the same numbers and other sides have scores of their own."""
    asked = AskedOnce(Counting())
    x = torch.from_numpy(ROWS[[3, 3]])
    scores = asked(x=x, side=torch.tensor([1, 2]))
    assert float(scores[1, 0] - scores[0, 0]) == pytest.approx(1.0, abs=1e-5)


def test_labels_that_must_not_be_written_are_learnt_from() -> None:
    """Read-only labels, as pandas gives them, come as tensors of their own, without torch's warning."""
    labels = np.array([1, 0, 2, 1, 0, 2], dtype=np.int64)
    labels.flags.writeable = False
    data = ({"x": ROWS[:4], "side": SIDES[:4]}, {"x": ROWS[4:], "side": SIDES[4:]})
    examples = Examples(probes=data, calibration=data, calibration_labels=labels)
    found = list(learning_batches(Counting(), Signature("classifier", SPECS, ("logits",)), examples))
    assert [given.tolist() for _, given in found] == [[1, 0, 2, 1], [0, 2]]
    assert torch.equal(found[1][0]["side"], torch.tensor([4, 5]))


@pytest.mark.parametrize(
    ("rows", "steps", "epochs", "patience"), [(6, 3, 3, 5), (6, 9, 9, 6), (6, 24, 24, 16), (42, 3, 3, 5), (43, 3, 2, 5)]
)
def test_patience_is_two_thirds_of_the_epochs_and_at_least_five(
    rows: int, steps: int, epochs: int, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 6 rows 4 are trained on and of 42 rows 33, one step an epoch, and of 43 rows 34 in two: so many epochs, so many without a better loss."""
    asked: list[TrainingConfig] = []

    def fit(*given: Any) -> TrainingReport:
        asked.append(next(each for each in given if isinstance(each, TrainingConfig)))
        return TrainingReport(0, (), ())

    monkeypatch.setattr(recovery, "fit", fit)
    data = ({"x": np.resize(ROWS, (rows, 3)), "side": np.resize(SIDES, rows)},)
    model = TorchModel(Counting(), Signature("classifier", SPECS, ("logits",)))
    recover(
        model.module,
        model,
        RecoveryConfig(recover_steps=steps),
        Examples(probes=data, calibration=data),
        lambda _: None,
    )
    assert [(each.epochs, each.patience, each.max_steps) for each in asked] == [(epochs, patience, steps)]


def test_how_far_it_is_is_told_at_each_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of steps those are told that end a percent, with the loss of that step."""

    def fit(*given: Any) -> TrainingReport:
        hear = given[4]
        for step in (1, 9, 10, 11, 505, 1000):
            hear(step / 1000, f"loss {step}")
        return TrainingReport(1000, (), ())

    monkeypatch.setattr(recovery, "fit", fit)
    data, told = ({"x": ROWS, "side": SIDES},), []
    model = TorchModel(Counting(), Signature("classifier", SPECS, ("logits",)))
    recover(model.module, model, RecoveryConfig(recover_steps=1000), Examples(data, data), told.append)
    assert told == [
        "recovery 0 %, loss 1",
        "recovery 1 %, loss 10",
        "recovery 50 %, loss 505",
        "recovery 100 %, loss 1000",
    ]
