"""The one small trainer: fits a classifier or a causal language model, seeded, with early stopping."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Arrays = Mapping[str, NDArray[Any]]
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Attributes:
        optimizer: adam (decoupled weight decay), sgd or rmsprop.
        learning_rate: peak rate; it warms up over the first tenth of the steps and decays as a cosine to zero.
        epochs: passes over the training part.
        batch_size: rows a step.
        weight_decay: L2 penalty (decoupled for adam).
        validation_share: share of the rows held out; 0 trains on all and never stops early.
        patience: epochs without a better validation loss before stopping; the best weights are restored.
        clip: largest norm of the gradient.
        seed: of shuffling, dropout and the split.
        threads: compute threads.
    """

    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    epochs: int = 1
    batch_size: int = 32
    weight_decay: float = 0.0
    validation_share: float = 0.0
    patience: int = 2
    clip: float = 1.0
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class TrainingReport:
    """Steps taken, mean training loss of each epoch, validation loss of each epoch (empty without a held-out part)."""

    steps: int
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...]


def fit(
    module: Any, arrays: Arrays, labels: NDArray[np.int64] | None, config: TrainingConfig, progress: Tell
) -> TrainingReport:
    """Fit a module in place: cross-entropy on labels, or, with `labels` None, on the next token of `input_ids`.

    `arrays` are named inputs whose first axis is the rows. The module ends in evaluation mode.

    Raises:
        ConfigError: there are no rows, or the loss is no longer a finite number.
    """
    import torch

    rows = len(next(iter(arrays.values())))
    if rows == 0:
        raise ConfigError("training needs at least one row of data")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    order = random.permutation(rows)
    held = math.ceil(rows * config.validation_share) if config.validation_share else 0
    validation, training = order[:held], order[held:]
    steps = config.epochs * math.ceil(len(training) / config.batch_size)
    optimizer = _optimizer(module, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses: list[float] = []
    validated: list[float] = []
    best: dict[str, Any] = {}
    done = 0
    for _ in range(config.epochs):
        module.train()
        total = 0.0
        shuffled = random.permutation(training)
        for start in range(0, len(shuffled), config.batch_size):
            loss = _step(module, _batch(arrays, labels, shuffled[start : start + config.batch_size]), optimizer, config)
            schedule.step()
            total += loss
            done += 1
            progress(done / steps, f"loss {loss:.3f}")
        losses.append(total / math.ceil(len(training) / config.batch_size))
        if held:
            validated.append(_validate(module, arrays, labels, validation, config))
            if validated[-1] == min(validated):
                best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            elif len(validated) - 1 - validated.index(min(validated)) >= config.patience:
                break
    if best:
        module.load_state_dict(best)
    module.eval()
    return TrainingReport(done, tuple(losses), tuple(validated))


def _optimizer(module: Any, config: TrainingConfig) -> Any:
    import torch

    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if config.optimizer == "adam":
        return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
    made = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.RMSprop
    return made(parameters, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)


def _rate(step: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up over a tenth of the steps, then a half cosine to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _batch(arrays: Arrays, labels: NDArray[np.int64] | None, rows: NDArray[np.int64]) -> tuple[dict[str, Any], Any]:
    import torch

    inputs = {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in arrays.items()}
    return inputs, None if labels is None else torch.from_numpy(labels[rows])


def _loss(module: Any, inputs: dict[str, Any], labels: Any) -> Any:
    """Cross-entropy of the class scores, or of the next token."""
    import torch

    outputs = module(**inputs)
    scores = getattr(outputs, "logits", outputs)
    if labels is not None:
        return torch.nn.functional.cross_entropy(scores, labels)
    return torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), inputs["input_ids"][:, 1:].flatten())


def _step(module: Any, batch: tuple[dict[str, Any], Any], optimizer: Any, config: TrainingConfig) -> float:
    import torch

    optimizer.zero_grad()
    loss = _loss(module, *batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
    optimizer.step()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ConfigError(f"the training loss became {value}; lower learning_rate (now {config.learning_rate:g})")
    return value


def _validate(
    module: Any, arrays: Arrays, labels: NDArray[np.int64] | None, rows: NDArray[np.int64], config: TrainingConfig
) -> float:
    import torch

    module.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), config.batch_size):
            part = rows[start : start + config.batch_size]
            total += float(_loss(module, *_batch(arrays, labels, part))) * len(part)
    return total / len(rows)
