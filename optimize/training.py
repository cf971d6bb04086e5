"""The one small trainer: fits a classifier or a causal language model, alone or by a teacher, seeded, with early stopping."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .batches import row_count
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
        max_steps: stop after so many steps, in the midst of an epoch if need be; None for whole epochs.
        batch_size: rows a step.
        weight_decay: L2 penalty (decoupled for adam).
        validation_share: share of the rows held out; 0 trains on all and never stops early.
        patience: epochs after that of lowest validation loss before stopping; the best weights are restored, which are
            those before the first step where none were better.
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
    max_steps: int | None = None


@dataclass(frozen=True)
class TrainingReport:
    """Steps taken, mean training loss of each epoch, validation loss of each epoch (empty without a held-out part).

    `untrained_loss` is the validation loss before the first step, None without a held-out part.
    """

    steps: int
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    untrained_loss: float | None = None


@dataclass(frozen=True)
class Teacher:
    """A module in evaluation mode whose scores are learnt (Hinton and others, 2015).

    Attributes:
        module: takes the same inputs and gives scores of the same shape.
        weight: of the divergence from its scores in the loss, 0 to 1; the rest is the loss of the labels or next tokens.
        temperature: by which both sides' scores are divided; higher shows more of the unlikely classes.
    """

    module: Any
    weight: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True)
class _Lesson:
    """What is learnt: rows of inputs, and their labels or next tokens, a teacher's scores, or both."""

    arrays: Arrays
    labels: NDArray[np.int64] | None
    teacher: Teacher | None


def fit(
    module: Any,
    arrays: Arrays,
    labels: NDArray[np.int64] | None,
    config: TrainingConfig,
    progress: Tell,
    teacher: Teacher | None = None,
) -> TrainingReport:
    """Fit a module in place: cross-entropy on labels, or, with `labels` None, on the next token of `input_ids`.

    With a `teacher` of weight w and temperature T the loss is w T^2 D + (1 - w) L: D is the Kullback-Leibler divergence of
    the module's scores from the teacher's, both divided by T (Hinton and others, 2015), and L the loss above, which is not
    computed where w is 1.

    `arrays` are named inputs whose first axis is the rows. The module ends in evaluation mode.

    Raises:
        ConfigError: there are no rows to train on, or the loss is no longer a finite number.
    """
    import torch

    rows = row_count(arrays)
    random = np.random.default_rng(config.seed)
    order = random.permutation(rows)
    held = math.ceil(rows * config.validation_share) if config.validation_share else 0
    validation, training = order[:held], order[held:]
    if not len(training):
        raise ConfigError(f"training needs at least one row of data beside the {held} held out; given {rows}")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    lesson = _Lesson(arrays, labels, teacher)
    steps = config.epochs * math.ceil(len(training) / config.batch_size)
    steps = min(steps, config.max_steps or steps)
    optimizer = _optimizer(module, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses: list[float] = []
    validated: list[float] = []
    lowest = untrained = _validate(module, lesson, validation, config) if held else None
    best = _state(module) if held else {}
    done = 0
    while done < steps:
        module.train()
        epoch: list[float] = []
        for part in _parts(random.permutation(training), config.batch_size)[: steps - done]:
            epoch.append(_step(module, lesson, part, optimizer, config))
            schedule.step()
            done += 1
            progress(done / steps, f"loss {epoch[-1]:.3f}")
        losses.append(sum(epoch) / len(epoch))
        if lowest is not None:
            validated.append(_validate(module, lesson, validation, config))
            if validated[-1] <= lowest:
                lowest, best = validated[-1], _state(module)
            if len(validated) - 1 - validated.index(min(validated)) >= config.patience:
                break
    if best:
        module.load_state_dict(best)
    module.eval()
    return TrainingReport(done, tuple(losses), tuple(validated), untrained)


def _state(module: Any) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _parts(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


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


def _loss(module: Any, lesson: _Lesson, rows: NDArray[np.int64]) -> Any:
    """Divergence from the teacher, and the loss of labels or next tokens, each by its weight."""
    import torch

    inputs = {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in lesson.arrays.items()}
    scores = scores_of(module(**inputs))
    teacher = lesson.teacher
    weight = teacher.weight if teacher is not None else 0.0
    loss = scores.new_zeros(())
    if weight < 1:
        labels = None if lesson.labels is None else torch.from_numpy(lesson.labels[rows])
        loss = (1 - weight) * (label_loss(scores, labels) if labels is not None else next_token_loss(scores, inputs))
    if teacher is not None and weight > 0:
        with torch.no_grad():
            wanted = scores_of(teacher.module(**inputs))
        loss = loss + weight * divergence(scores, wanted, inputs.get("attention_mask"), teacher.temperature)
    return loss


def scores_of(outputs: Any) -> Any:
    """The scores among a module's outputs: `.logits`, else the first of a mapping or tuple, else the outputs."""
    scores = getattr(outputs, "logits", outputs)
    if isinstance(scores, Mapping):
        return next(iter(scores.values()))
    return scores[0] if isinstance(scores, tuple | list) else scores


def label_loss(scores: Any, labels: Any) -> Any:
    """Mean cross-entropy of the labels, shape (rows,); of a single score a row, that of its sigmoid."""
    import torch

    if is_single(scores):
        return torch.nn.functional.binary_cross_entropy_with_logits(scores.reshape(-1), labels.to(scores.dtype))
    return torch.nn.functional.cross_entropy(scores, labels)


def is_single(scores: Any) -> bool:
    """Whether scores are a single one a row, shape (rows,) or (rows, 1): for one of two classes, against the other."""
    return bool(scores.ndim == 1 or scores.shape[-1] == 1)


def next_token_loss(scores: Any, inputs: Mapping[str, Any]) -> Any:
    """Mean cross-entropy of each token of `input_ids` after the first, given those before it; padding does not count."""
    import torch

    ids = inputs["input_ids"][:, 1:]
    each = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), ids.flatten(), reduction="none")
    if "attention_mask" not in inputs:
        return each.mean()
    mask = inputs["attention_mask"]
    return each[(mask[:, 1:] * mask[:, :-1]).flatten().bool()].mean()


def divergence(scores: Any, wanted: Any, mask: Any | None = None, temperature: float = 1.0) -> Any:
    """Mean Kullback-Leibler divergence of softmax(scores / T) from softmax(wanted / T), in nats, times T squared.

    The square keeps the gradients as large as at T = 1 (Hinton and others, 2015). Shapes are (rows, classes), or (rows,
    positions, vocabulary), where positions that the mask leaves out do not count. A single score a row has no softmax:
    there it is the mean squared difference.
    """
    import torch

    if is_single(scores):
        return torch.nn.functional.mse_loss(scores, wanted)
    logs, targets = (torch.log_softmax(each / temperature, dim=-1) for each in (scores, wanted))
    each = torch.nn.functional.kl_div(logs, targets, reduction="none", log_target=True).sum(dim=-1)
    counted = each[mask.bool()] if mask is not None and mask.shape == each.shape else each
    return temperature**2 * counted.mean()


def _step(module: Any, lesson: _Lesson, rows: NDArray[np.int64], optimizer: Any, config: TrainingConfig) -> float:
    import torch

    optimizer.zero_grad()
    loss = _loss(module, lesson, rows)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
    optimizer.step()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ConfigError(f"the training loss became {value}; lower learning_rate (now {config.learning_rate:g})")
    return value


def _validate(module: Any, lesson: _Lesson, rows: NDArray[np.int64], config: TrainingConfig) -> float:
    import torch

    module.eval()
    with torch.no_grad():
        total = sum(float(_loss(module, lesson, part)) * len(part) for part in _parts(rows, config.batch_size))
    return total / len(rows)
