"""The trainer: it learns what can be learnt, stops where it should, and does the same twice."""

from typing import Any

import numpy as np
import pytest
import torch
from weighbridge.optimize import training
from weighbridge.optimize.errors import ConfigError
from weighbridge.optimize.losses import balanced_weights, divergence, label_loss
from weighbridge.optimize.training import Teacher, TrainingConfig, fit

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


@pytest.mark.parametrize(
    ("rows", "size", "parts"),
    [(9, 4, [4, 5]), (8, 4, [4, 4]), (10, 4, [4, 4, 2]), (5, 8, [5]), (1, 4, [1]), (3, 1, [1, 1, 1]), (3, 2, [3])],
)
def test_no_step_learns_from_a_last_row_alone(
    monkeypatch: pytest.MonkeyPatch, rows: int, size: int, parts: list[int]
) -> None:
    """One row that is left of an epoch joins the step before it; each epoch goes over every row once."""
    seen: list[Any] = []
    step = training._step

    def recorded(*given: Any) -> float:
        seen.append(given[2])
        return step(*given)

    monkeypatch.setattr(training, "_step", recorded)
    config = TrainingConfig(epochs=2, batch_size=size)
    report = fit(network(), {"input": POINTS[:rows]}, SIDES[:rows], config, silent)
    assert [len(part) for part in seen] == 2 * parts
    assert report.steps == len(seen)
    for epoch in (seen[: len(parts)], seen[len(parts) :]):
        assert sorted(np.concatenate(epoch)) == list(range(rows))


def test_batch_norm_is_trained_where_a_row_is_left_over() -> None:
    """A batch norm after a linear layer, which refuses a single row, is trained on 9 rows in steps of 4."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    report = fit(module, {"input": POINTS[:9]}, SIDES[:9], TrainingConfig(batch_size=4), silent)
    assert report.steps == 2


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_module_that_is_frozen_is_refused(optimizer: Any) -> None:
    """Where no parameter may change nothing can be learnt, and the text says how many there are and what to do."""
    words = r"none of the module's 4 parameters may change \(requires_grad is off\); switch it on .*recover_steps = 0"
    with pytest.raises(ConfigError, match=words):
        fit(network().requires_grad_(False), {"input": POINTS}, SIDES, TrainingConfig(optimizer), silent)


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


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0] * 8),
        ("linear", [1.0, 1.0, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7]),
        ("cosine", [1.0, 1.0, *(0.5 * (1 + np.cos(np.pi * step / 7)) for step in range(1, 7))]),
        ("exponential", [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
    ],
)
def test_the_rate_falls_as_its_schedule_says(
    monkeypatch: pytest.MonkeyPatch, schedule: Any, expected: list[float]
) -> None:
    """Eight steps in four epochs, the first of them the warm-up: the optimizer's rates are those by hand."""
    rates: list[float] = []
    step = training._step

    def recorded(*given: Any) -> float:
        rates.append(given[3].param_groups[0]["lr"])
        return step(*given)

    monkeypatch.setattr(training, "_step", recorded)
    config = TrainingConfig(learning_rate=1.0, epochs=4, batch_size=100, schedule=schedule, decay=0.5)
    fit(network(), {"input": POINTS}, SIDES, config, silent)
    assert rates == pytest.approx(expected)


def one_sgd_step(module: Any, **options: Any) -> Any:
    """What one step at rate 1 on all rows takes away from the weights of the first layer, shape (16, 2)."""
    before = module[0].weight.detach().clone()
    config = TrainingConfig("sgd", 1.0, batch_size=200, clip=1e9, **options)
    fit(module, {"input": POINTS}, SIDES, config, silent)
    return (before - module[0].weight.detach()).numpy()


def test_penalties_pull_the_weights_to_zero_by_their_formulas() -> None:
    """Beside the loss's own gradient, L1 takes its strength off each weight towards zero, and L2 that share of it."""
    start = network()[0].weight.detach().numpy()
    plain = one_sgd_step(network())
    np.testing.assert_allclose(one_sgd_step(network(), l1=0.01) - plain, 0.01 * np.sign(start), atol=1e-6)
    np.testing.assert_allclose(one_sgd_step(network(), weight_decay=0.1) - plain, 0.1 * start, atol=1e-6)


def test_l1_leaves_few_weights() -> None:
    """A strong L1 penalty drives most weights of a fitted network to nearly zero, and its biases go free."""
    shares = []
    for l1 in (0.0, 0.02):
        module = network()
        fit(module, {"input": POINTS}, SIDES, TrainingConfig(learning_rate=1e-2, epochs=30, l1=l1, threads=1), silent)
        shares.append(float((module[0].weight.abs() < 1e-2).float().mean()))
    assert shares[0] < 0.2
    assert shares[1] > 0.5


@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "hinge"])
def test_every_loss_learns_a_line_and_is_the_one_reported(loss: Any) -> None:
    """The first reported loss is the configured loss of the untrained scores, and each loss is learnt to 95 %."""
    with torch.no_grad():
        expected = float(label_loss(network()(torch.from_numpy(POINTS)), torch.from_numpy(SIDES), loss))
    first = fit(network(), {"input": POINTS}, SIDES, TrainingConfig(batch_size=200, loss=loss), silent)
    assert first.losses[0] == pytest.approx(expected, rel=1e-5)
    module = network()
    fit(module, {"input": POINTS}, SIDES, TrainingConfig(learning_rate=2e-2, epochs=15, loss=loss, threads=1), silent)
    assert accuracy(module) >= 0.95


def test_balanced_classes_count_alike_however_rare() -> None:
    """A class of one row in twenty, not told apart by anything, gets half of the probability, and its own share otherwise."""
    labels = (np.arange(200) % 20 == 0).astype(np.int64)
    chances = {}
    for balanced in (False, True):
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 1)
        config = TrainingConfig(learning_rate=0.1, epochs=150, batch_size=200, balanced=balanced, threads=1)
        fit(module, {"input": np.zeros_like(POINTS)}, labels, config, silent)
        chances[balanced] = float(module.bias.detach().sigmoid())
    assert chances[True] == pytest.approx(0.5, abs=0.02)
    assert chances[False] < 0.15


def test_the_weights_are_those_of_the_rows_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows held out for early stopping do not count towards the weights of the classes."""
    seen: list[Any] = []
    monkeypatch.setattr(
        training,
        "balanced_weights",
        lambda labels, classes: seen.append((labels, classes)) or balanced_weights(labels, classes),
    )
    config = TrainingConfig(batch_size=200, validation_share=0.25, balanced=True)
    fit(network(), {"input": POINTS}, SIDES, config, silent)
    trained = np.random.default_rng(config.seed).permutation(200)[50:]
    np.testing.assert_array_equal(seen[0][0].numpy(), SIDES[trained])
    assert seen[0][1] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "adamw"}, "unknown optimizer 'adamw'; did you mean 'adam'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"loss": "hings"}, "unknown loss 'hings'; did you mean 'hinge'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0; given 0.0"),
        ({"decay": 1.5}, "decay must be above 0 and at most 1; given 1.5"),
        ({"l1": -1.0}, "l1 must be at least 0; given -1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0; given -0.1"),
        ({"validation_share": 1.0}, "validation_share must be at least 0 and below 1; given 1.0"),
        ({"epochs": 0}, "epochs must be at least 1; given 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; given 0"),
    ],
)
def test_a_training_that_cannot_be_meant_is_refused(options: dict[str, Any], sentence: str) -> None:
    """Unknown names name the nearest, numbers out of range say the range and what was given."""
    with pytest.raises(ConfigError, match=sentence):
        TrainingConfig(**options)


def test_what_is_of_labels_needs_labels() -> None:
    """Balance and a loss other than cross-entropy are refused where there are no labels."""
    ids = {"input_ids": np.ones((4, 3), np.int64)}
    with pytest.raises(ConfigError, match="balanced is of labels, and there are none"):
        fit(network(), ids, None, TrainingConfig(balanced=True), silent)
    with pytest.raises(ConfigError, match="loss = 'hinge' is of labels"):
        fit(network(), ids, None, TrainingConfig(loss="hinge"), silent)
