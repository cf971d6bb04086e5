"""The trainer: it learns what can be learnt, stops where it should, and does the same twice."""

from typing import Any

import numpy as np
import pytest
import torch
from weighbridge.optimize.errors import ConfigError
from weighbridge.optimize.training import TrainingConfig, fit

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.standard_normal((200, 2)).astype(np.float32)
SIDES = (POINTS.sum(axis=1) > 0).astype(np.int64)


def silent(fraction: float, text: str) -> None:
    del fraction, text


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


def accuracy(module: Any) -> float:
    with torch.no_grad():
        return float((module(torch.from_numpy(POINTS)).argmax(dim=1).numpy() == SIDES).mean())


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 1e-2), ("sgd", 0.1), ("rmsprop", 3e-3)])
def test_every_optimizer_learns_a_line(optimizer: Any, rate: float) -> None:
    """Which side of a line a point lies on is learnt to 95 % by each optimizer."""
    module = network()
    report = fit(module, {"input": POINTS}, SIDES, TrainingConfig(optimizer, rate, epochs=15), silent)
    assert accuracy(module) >= 0.95
    assert report.losses[-1] < report.losses[0]
    assert report.steps == 15 * 7
    assert not module.training


def test_the_same_seed_gives_the_same_weights() -> None:
    """Two fits of one seed end in the same weights, another seed in others."""
    weights = []
    for seed in (1, 1, 2):
        module = network()
        fit(module, {"input": POINTS}, SIDES, TrainingConfig(seed=seed, epochs=2), silent)
        weights.append(torch.cat([parameter.flatten() for parameter in module.parameters()]).detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_early_stopping_restores_the_best_weights() -> None:
    """On labels of pure chance the validation loss soon rises: training stops early, at the best validation loss."""
    chance = RANDOM.integers(0, 2, 200)
    module = network()
    config = TrainingConfig(learning_rate=0.05, epochs=60, validation_share=0.3, patience=2)
    report = fit(module, {"input": POINTS}, chance, config, silent)
    assert len(report.validation_losses) < 60
    held = np.random.default_rng(config.seed).permutation(200)[:60]
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(POINTS[held])), torch.from_numpy(chance[held]))
    assert float(loss) == pytest.approx(min(report.validation_losses), rel=1e-4)


def test_a_language_model_learns_the_next_token() -> None:
    """Without labels the loss is the next token's: on a repeating sequence it falls far below chance."""

    class Bigram(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(5, 5)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.table(input_ids)
            return scores

    ids = np.tile(np.arange(5), (40, 4))
    report = fit(Bigram(), {"input_ids": ids}, None, TrainingConfig(learning_rate=0.3, epochs=8, batch_size=8), silent)
    assert report.losses[-1] < 0.3 * np.log(5)


def test_progress_ends_at_one() -> None:
    """Progress rises to 1 and names the loss."""
    told: list[tuple[float, str]] = []
    fit(
        network(),
        {"input": POINTS},
        SIDES,
        TrainingConfig(epochs=1),
        lambda fraction, text: told.append((fraction, text)),
    )
    assert told[-1][0] == 1.0
    assert told == sorted(told)
    assert told[-1][1].startswith("loss ")


def test_no_rows_and_a_diverging_loss_are_refused() -> None:
    """Training on nothing, or into infinity, is an error that says what to change."""
    with pytest.raises(ConfigError, match="needs at least one row"):
        fit(network(), {"input": POINTS[:0]}, SIDES[:0], TrainingConfig(), silent)
    with pytest.raises(ConfigError, match="lower learning_rate"):
        fit(network(), {"input": POINTS * np.float32("inf")}, SIDES, TrainingConfig(), silent)
