"""The trainer: it learns what can be learnt, stops where it should, and does the same twice."""

from typing import Any

import numpy as np
import pytest
import torch
from weighbridge.optimize import training
from weighbridge.optimize.errors import ConfigError
from weighbridge.optimize.training import Teacher, TrainingConfig, divergence, fit, label_loss, next_token_loss

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


def test_steps_are_capped_within_an_epoch() -> None:
    """`max_steps` stops in the midst of an epoch, which is validated all the same; the rate has decayed by then."""
    config = TrainingConfig(epochs=9, max_steps=8, validation_share=0.2, patience=9)
    report = fit(network(), {"input": POINTS}, SIDES, config, silent)
    assert report.steps == 8
    assert len(report.losses) == len(report.validation_losses) == 2


def test_training_that_only_harms_leaves_the_weights() -> None:
    """Where no epoch is better on the held-out part than the start, the weights are those before the first step."""
    module = network()
    fit(module, {"input": POINTS}, SIDES, TrainingConfig(learning_rate=1e-2, epochs=40), silent)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    config = TrainingConfig("sgd", learning_rate=1e3, epochs=3, validation_share=0.5, batch_size=1)
    report = fit(module, {"input": POINTS}, SIDES, config, silent)
    assert report.untrained_loss is not None
    assert min(report.validation_losses) > report.untrained_loss
    assert all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def test_a_pupil_learns_its_teachers_scores() -> None:
    """With a teacher and no labels the module comes to answer as the teacher, which is not changed."""
    teacher, pupil = network(1).eval(), network(2)
    weights = [parameter.detach().clone() for parameter in teacher.parameters()]
    config = TrainingConfig(learning_rate=2e-2, epochs=20)
    report = fit(pupil, {"input": POINTS}, None, config, silent, Teacher(teacher))
    assert report.losses[-1] < 0.05 * report.losses[0]
    assert all(torch.equal(old, new) for old, new in zip(weights, teacher.parameters(), strict=True))
    with torch.no_grad():
        answers = [module(torch.from_numpy(POINTS)).argmax(dim=1) for module in (teacher, pupil)]
    assert float((answers[0] == answers[1]).float().mean()) > 0.95


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


def test_a_teacher_and_labels_are_learnt_by_their_weights() -> None:
    """The first loss of a fit is w T^2 D + (1 - w) L by hand, for every weight; labels are not needed at weight 1."""
    teacher, sides = network(1).eval(), torch.from_numpy(SIDES)
    with torch.no_grad():
        scores, wanted = (module(torch.from_numpy(POINTS)) for module in (network(2), teacher))
    distance = float(divergence(scores, wanted, temperature=2.0))
    cross = float(torch.nn.functional.cross_entropy(scores, sides))
    for weight in (0.0, 0.3, 1.0):
        config = TrainingConfig(epochs=1, batch_size=200)
        labels = None if weight == 1 else SIDES
        report = fit(network(2), {"input": POINTS}, labels, config, silent, Teacher(teacher, weight, 2.0))
        assert report.losses[0] == pytest.approx(weight * distance + (1 - weight) * cross, rel=1e-4)


def test_labels_of_a_single_score_are_its_sides() -> None:
    """Where a model gives one score a row, the loss is the cross-entropy of its sigmoid, by hand."""
    scores, labels = np.array([[0.5], [-2.0]]), np.array([1, 0])
    chances = 1 / (1 + np.exp(-scores[:, 0]))
    expected = -np.log([chances[0], 1 - chances[1]]).mean()
    assert float(label_loss(torch.from_numpy(scores), torch.from_numpy(labels))) == pytest.approx(expected)


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


@pytest.mark.parametrize(
    ("curve", "epochs", "best"),
    [
        ([9, 5, 4, 6, 3, 7, 7, 8, 1], 7, 4),  # three epochs without a better one than the fourth
        ([9, 10, 11, 12, 13, 1], 4, 0),  # never better than before the first step
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], 8, 8),  # better to the end
    ],
)
def test_a_validation_curve_decides_when_to_stop_and_what_stays(
    monkeypatch: pytest.MonkeyPatch, curve: list[float], epochs: int, best: int
) -> None:
    """On a given curve of held-out losses (the first before any step) training ends, and the best epoch's weights stay."""
    states: list[Any] = []

    def scripted(module: Any, *_: Any) -> float:
        states.append([parameter.detach().clone() for parameter in module.parameters()])
        return curve[len(states) - 1]

    monkeypatch.setattr(training, "_validate", scripted)
    module = network()
    config = TrainingConfig(epochs=8, validation_share=0.2, patience=3)
    report = fit(module, {"input": POINTS}, SIDES, config, silent)
    assert report.untrained_loss == curve[0]
    assert report.validation_losses == tuple(curve[1 : epochs + 1])
    assert all(torch.equal(kept, now) for kept, now in zip(states[best], module.parameters(), strict=True))
    assert not any(torch.equal(states[best][0], state[0]) for number, state in enumerate(states) if number != best)
