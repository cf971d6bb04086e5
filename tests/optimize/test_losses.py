"""The losses that training minimises, against scikit-learn and values by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, hinge_loss, log_loss
from sklearn.utils.class_weight import compute_class_weight
from weighbridge.bench.quality import estimates
from weighbridge.optimize.losses import balanced_weights, divergence, label_loss, next_token_loss

RANDOM = np.random.default_rng(1)
SCORES = 2 * RANDOM.standard_normal((60, 4))
LABELS = RANDOM.choice(4, 60, p=[0.5, 0.3, 0.15, 0.05])
ROW_WEIGHTS = compute_class_weight("balanced", classes=np.arange(4), y=LABELS)[LABELS]
SINGLE, SIDES = SCORES[:, 0], (LABELS > 0).astype(np.int64)
CHANCES = 1 / (1 + np.exp(-SINGLE))
SIDE_WEIGHTS = compute_class_weight("balanced", classes=np.arange(2), y=SIDES)[SIDES]


def of(scores: Any, labels: Any, loss: Any, *, balanced: bool = False) -> float:
    """Our loss of arrays."""
    targets = torch.from_numpy(labels)
    weights = balanced_weights(targets, int(labels.max()) + 1) if balanced else None
    return float(label_loss(torch.from_numpy(scores), targets, loss, weights))


def softmax(scores: Any) -> Any:
    return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("balanced", [False, True])
def test_losses_of_several_classes_are_scikit_learns(balanced: bool) -> None:
    """Cross-entropy and the hinge of Crammer and Singer, plain and with balanced classes, are scikit-learn's."""
    weights = ROW_WEIGHTS if balanced else None
    expected = log_loss(LABELS, softmax(SCORES), sample_weight=weights)
    assert of(SCORES, LABELS, "cross-entropy", balanced=balanced) == pytest.approx(expected, rel=1e-6)
    expected = hinge_loss(LABELS, SCORES, labels=range(4), sample_weight=weights)
    assert of(SCORES, LABELS, "hinge", balanced=balanced) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(60,), (60, 1)])
@pytest.mark.parametrize("balanced", [False, True])
def test_losses_of_a_single_score_are_scikit_learns(shape: tuple[int, ...], balanced: bool) -> None:
    """A single score a row speaks for class 1: its cross-entropy, squared error and hinge are scikit-learn's."""
    weights, scores = SIDE_WEIGHTS if balanced else None, SINGLE.reshape(shape)
    expected = {
        "cross-entropy": log_loss(SIDES, CHANCES, sample_weight=weights),
        "mse": brier_score_loss(SIDES, CHANCES, sample_weight=weights),
        "hinge": hinge_loss(SIDES, SINGLE, sample_weight=weights),
    }
    for loss, value in expected.items():
        assert of(scores, SIDES, loss, balanced=balanced) == pytest.approx(value, rel=1e-6), loss


def test_the_squared_error_that_is_trained_on_is_the_metric() -> None:
    """The loss `mse` is the metric `mse` of the same scores, with several classes and with a single score."""
    for scores, labels in ((SCORES, LABELS), (SINGLE[:, None], SIDES)):
        metric = estimates(labels, labels, scores.astype(np.float32))["mse"].value
        assert of(scores, labels, "mse") == pytest.approx(metric, rel=1e-5)


def test_losses_by_hand() -> None:
    """Two rows small enough to work out: scores (1, 3) of class 1, and (2, 0) of class 1."""
    scores, labels = np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([1, 1])
    near, far = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))
    assert of(scores, labels, "hinge") == pytest.approx((0 + 3) / 2)
    assert of(scores, labels, "cross-entropy") == pytest.approx(-(np.log(near) + np.log(far)) / 2)
    assert of(scores, labels, "mse") == pytest.approx((far**2 + near**2) / 2)


def test_a_class_that_does_not_occur_has_weight_one() -> None:
    """Classes 0 and 2 of three rows weigh 3/(2 x 2) and 3/(2 x 1); class 1 does not occur."""
    assert balanced_weights(torch.tensor([0, 0, 2]), 3).tolist() == pytest.approx([0.75, 1.0, 1.5])


def test_divergence_is_the_published_formula() -> None:
    """The sum of p log(p / q) by hand, in the mean over rows; padding does not count; single scores differ squared."""
    wanted, scores = RANDOM.standard_normal((2, 3, 4)), RANDOM.standard_normal((2, 3, 4))
    p, q = (np.exp(each) / np.exp(each).sum(axis=-1, keepdims=True) for each in (wanted, scores))
    each = (p * np.log(p / q)).sum(axis=-1)
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    given = torch.from_numpy(scores), torch.from_numpy(wanted)
    assert float(divergence(*given)) == pytest.approx(each.mean())
    assert float(divergence(*given, torch.from_numpy(mask))) == pytest.approx(each[mask == 1].mean())
    p, q = (np.exp(each / 3) / np.exp(each / 3).sum(axis=-1, keepdims=True) for each in (wanted, scores))
    assert float(divergence(*given, temperature=3)) == pytest.approx(9 * (p * np.log(p / q)).sum(axis=-1).mean())
    assert float(divergence(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.0]]))) == pytest.approx(2.0)


def test_padding_is_no_next_token() -> None:
    """A token counts where it and the one before it are real: by a naive loop over two rows, the first padded on the left."""
    scores, ids = RANDOM.standard_normal((2, 4, 5)), RANDOM.integers(0, 5, (2, 4))
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    logs = np.log(np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True))
    losses = [
        -logs[row, place - 1, ids[row, place]]
        for row in range(2)
        for place in range(1, 4)
        if mask[row, place] and mask[row, place - 1]
    ]
    assert len(losses) == 4
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    assert float(next_token_loss(torch.from_numpy(scores), inputs)) == pytest.approx(np.mean(losses))
