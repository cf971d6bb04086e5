"""The one small trainer: fits a classifier or a causal language model, alone or by a teacher, seeded, with early stopping."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .batches import row_count
from .errors import ConfigError, one_of
from .losses import Loss, balanced_weights, divergence, label_loss, next_token_loss, scores_of

Arrays = Mapping[str, NDArray[Any]]
Tell = Callable[[float, str], None]
Optimizer = Literal["adam", "sgd", "rmsprop"]
Schedule = Literal["cosine", "linear", "exponential", "constant"]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Attributes:
        optimizer: adam (decoupled weight decay), sgd or rmsprop.
        learning_rate: peak rate; it warms up over the first tenth of the steps.
        schedule: how the rate falls afterwards: as a half cosine or a line to zero, by `decay` from each epoch to the next
            (exponential), or not at all (constant).
        decay: of the exponential schedule: what each epoch's rate is of the one before.
        epochs: passes over the training part.
        max_steps: stop after so many steps, in the midst of an epoch if need be; None for whole epochs.
        batch_size: rows a step; the last of an epoch has what is left of them, and one row more where else one were left alone.
        weight_decay: L2 penalty: half of it times the sum of the squared parameters (decoupled for adam).
        l1: L1 penalty: it times the sum of the absolute weights, those of matrices and kernels; reported losses leave it out.
        loss: of the labels (losses.label_loss).
        balanced: weight each class by how rare it is (losses.balanced_weights).
        validation_share: share of the rows held out; 0 trains on all and never stops early.
        patience: epochs after that of lowest validation loss before stopping; the best weights are restored, which are
            those before the first step where none were better.
        clip: largest norm of the gradient.
        seed: of shuffling, dropout and the split.
        threads: compute threads.
    """

    optimizer: Optimizer = "adam"
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
    schedule: Schedule = "cosine"
    decay: float = 0.9
    l1: float = 0.0
    loss: Loss = "cross-entropy"
    balanced: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: an unknown name, or a number out of its range.
        """
        for what, kind in (("optimizer", Optimizer), ("schedule", Schedule), ("loss", Loss)):
            if getattr(self, what) not in get_args(kind):
                raise ConfigError(one_of(what, getattr(self, what), get_args(kind)))
        ranges = (
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("decay", 0 < self.decay <= 1, "above 0 and at most 1"),
            ("l1", self.l1 >= 0, "at least 0"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("validation_share", 0 <= self.validation_share < 1, "at least 0 and below 1"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
        )
        for name, holds, allowed in ranges:
            if not holds:
                raise ConfigError(f"training: {name} must be {allowed}; given {getattr(self, name)}")


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
    """What is learnt: rows of inputs, and their labels or next tokens, a teacher's scores, or both; and how labels are."""

    arrays: Arrays
    labels: NDArray[np.int64] | None
    teacher: Teacher | None
    loss: Loss = "cross-entropy"
    weights: Any | None = None


def fit(
    module: Any,
    arrays: Arrays,
    labels: NDArray[np.int64] | None,
    config: TrainingConfig,
    progress: Tell,
    teacher: Teacher | None = None,
) -> TrainingReport:
    """Fit a module in place: the configured loss on labels, or, with `labels` None, cross-entropy on the next token of `input_ids`.

    With a `teacher` of weight w and temperature T the loss is w T^2 D + (1 - w) L: D is the Kullback-Leibler divergence of
    the module's scores from the teacher's, both divided by T (Hinton and others, 2015), and L the loss above, which is not
    computed where w is 1.

    `arrays` are named inputs whose first axis is the rows. The module ends in evaluation mode.

    Raises:
        ConfigError: there are no rows or no parameters to train on, a loss or balance of labels is asked for without labels, or
            the loss is no longer a finite number.
    """
    import torch

    random = np.random.default_rng(config.seed)
    validation, training = _split(row_count(arrays), config, random)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    lesson = _Lesson(arrays, labels, teacher, config.loss, _class_weights(labels, training, config))
    steps_an_epoch = epoch_steps(len(training), config.batch_size)
    whole = config.epochs * steps_an_epoch
    steps = min(whole, config.max_steps or whole)
    optimizer = _optimizer(module, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, steps_an_epoch, config))
    held_out = _HeldOut(module, lesson, validation, config)
    losses: list[float] = []
    done = 0
    while done < steps and not held_out.patience_is_over:
        module.train()
        epoch: list[float] = []
        for part in _parts(random.permutation(training), config.batch_size)[: steps - done]:
            epoch.append(_step(module, lesson, part, optimizer, config))
            schedule.step()
            done += 1
            progress(done / steps, f"loss {epoch[-1]:.3f}")
        losses.append(sum(epoch) / len(epoch))
        held_out.look()
    held_out.put_best_back()
    module.eval()
    return TrainingReport(done, tuple(losses), tuple(held_out.losses), held_out.untrained)


def _split(
    rows: int, config: TrainingConfig, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that are held out, and those to train on.

    Raises:
        ConfigError: there are none to train on.
    """
    order = random.permutation(rows)
    held = math.ceil(rows * config.validation_share) if config.validation_share else 0
    if held >= rows:
        raise ConfigError(f"training needs at least one row of data beside the {held} held out; given {rows}")
    return order[:held], order[held:]


class _HeldOut:
    """The loss on rows that are held out, and the weights where it was lowest; where none are, it does nothing."""

    def __init__(self, module: Any, lesson: _Lesson, rows: NDArray[np.int64], config: TrainingConfig) -> None:
        self._module, self._lesson, self._rows, self._config = module, lesson, rows, config
        self.losses: list[float] = []
        self.untrained = _validate(module, lesson, rows, config) if len(rows) else None
        self._lowest = self.untrained
        self._best = _state(module) if len(rows) else {}

    def look(self) -> None:
        """Take the loss after an epoch, and the weights where none was lower."""
        if self._lowest is None:
            return
        self.losses.append(_validate(self._module, self._lesson, self._rows, self._config))
        if self.losses[-1] <= self._lowest:
            self._lowest, self._best = self.losses[-1], _state(self._module)

    @property
    def patience_is_over(self) -> bool:
        """Whether so many epochs went by since the lowest loss after one."""
        return bool(self.losses) and len(self.losses) - 1 - self.losses.index(min(self.losses)) >= self._config.patience

    def put_best_back(self) -> None:
        """Give the module the best weights."""
        if self._best:
            self._module.load_state_dict(self._best)


def _state(module: Any) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def epoch_steps(rows: int, size: int) -> int:
    """How many steps of `size` rows go over all once; a last row alone joins the step before, for batch norm learns nothing from one."""
    alone = rows > size > 1 and rows % size == 1
    return math.ceil(rows / size) - alone


def _parts(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return np.split(rows, range(size, size * epoch_steps(len(rows), size), size))


def _optimizer(module: Any, config: TrainingConfig) -> Any:
    import torch

    everything = list(module.parameters())
    parameters = [parameter for parameter in everything if parameter.requires_grad]
    if not parameters:
        raise ConfigError(
            f"training: none of the module's {len(everything)} parameters may change (requires_grad is off); "
            "switch it on for those that shall learn, or train nothing (recover_steps = 0)"
        )
    if config.optimizer == "adam":
        return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
    made = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.RMSprop
    return made(parameters, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)


def _class_weights(labels: NDArray[np.int64] | None, rows: NDArray[np.int64], config: TrainingConfig) -> Any | None:
    """The weights of the classes by the rows that are trained on, None where each row counts alike."""
    import torch

    if labels is None and (config.balanced or config.loss != "cross-entropy"):
        asked = "balanced" if config.balanced else f"loss = '{config.loss}'"
        raise ConfigError(f"training: {asked} is of labels, and there are none; give labels or leave it out")
    if labels is None or not config.balanced:
        return None
    return balanced_weights(torch.from_numpy(labels[rows]), int(labels.max()) + 1)


def _rate(step: int, steps: int, steps_an_epoch: int, config: TrainingConfig) -> float:
    """Share of the peak rate: linear warm-up over a tenth of the steps, then what the schedule says."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "exponential":
        return float(config.decay ** (step // steps_an_epoch))
    done = (step - warm) / max(1, steps - warm)
    return 1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


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
        given = (
            next_token_loss(scores, inputs)
            if labels is None
            else label_loss(scores, labels, lesson.loss, lesson.weights)
        )
        loss = (1 - weight) * given
    if teacher is not None and weight > 0:
        with torch.no_grad():
            wanted = scores_of(teacher.module(**inputs))
        loss = loss + weight * divergence(scores, wanted, inputs.get("attention_mask"), teacher.temperature)
    return loss


def _step(module: Any, lesson: _Lesson, rows: NDArray[np.int64], optimizer: Any, config: TrainingConfig) -> float:
    import torch

    optimizer.zero_grad()
    loss = _loss(module, lesson, rows)
    (loss + _l1_penalty(module, config.l1) if config.l1 else loss).backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
    optimizer.step()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ConfigError(f"the training loss became {value}; lower learning_rate (now {config.learning_rate:g})")
    return value


def _l1_penalty(module: Any, strength: float) -> Any:
    """The penalty on the absolute weights; biases and norms, which have one axis, go free."""
    trained = (each for each in module.parameters() if each.requires_grad and each.ndim > 1)
    return strength * sum(each.abs().sum() for each in trained)


def _validate(module: Any, lesson: _Lesson, rows: NDArray[np.int64], config: TrainingConfig) -> float:
    import torch

    module.eval()
    with torch.no_grad():
        total = sum(float(_loss(module, lesson, part)) * len(part) for part in _parts(rows, config.batch_size))
    return total / len(rows)
