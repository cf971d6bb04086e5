"""Built-in workload `two-feature`: two standardised numbers, a layer of rectified units, one sigmoid unit."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...optimize.errors import InputError
from ...optimize.training import Arrays, TrainingConfig
from ..child import Progress
from .array_classifier import THREADS, ArrayClassifier
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request, pruned
from .corpus import Corpus, corpus_of, need_two_classes
from .data import Rows
from .trained_network import MOST_STEPS

_NAME = "two-feature"
_FEATURES = ("mean radius", "mean texture")
_TABLE = 2
"""Axes of rows of numbers."""


@dataclass(frozen=True)
class Size:
    """How wide the layer is, how many rows are evaluated, and how often the others are passed over."""

    width: int = 16
    evaluated: int = 170
    epochs: int = 60


DEFAULT_SIZE = Size()


def network(features: int, width: int) -> Any:
    """Features as they are written, standardised inside; a layer of `width` units; the logit of the second class."""
    import torch
    from torch import Tensor, nn

    class TwoLayers(nn.Module):
        mean: Tensor
        deviation: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(features))
            self.register_buffer("deviation", torch.ones(features))
            self.hidden = nn.Linear(features, width)
            self.score = nn.Linear(width, 1)

        def forward(self, features: Tensor) -> Tensor:
            logit: Tensor = self.score(self.hidden((features - self.mean) / self.deviation).relu())
            return logit

    return TwoLayers()


def standardise(module: Any, arrays: Arrays) -> None:
    """Learn mean and standard deviation of each feature from the rows to train on; one that never changes is divided by 1."""
    import torch

    features = arrays["features"].astype(np.float64)
    deviation = features.std(axis=0)
    module.mean.copy_(torch.from_numpy(features.mean(axis=0)))
    module.deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1.0)))


def breast_cancer(evaluated: int, seed: int) -> Corpus:
    """scikit-learn's 569 tumours, benign or malignant, by the mean radius and texture of their cells; a seeded, stratified draw."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer()
    columns = [list(data.feature_names).index(name) for name in _FEATURES]
    labels = tuple(str(data.target_names[target]) for target in data.target)
    rows = Rows(values=data.data[:, columns].astype(np.float32), labels=labels)
    training, held_out = train_test_split(np.arange(len(rows)), test_size=evaluated, random_state=seed, stratify=labels)
    return Corpus(rows.take(training), rows.take(held_out))


def make_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a network of that size (or take it from the cache).

    Raises:
        InputError: the user's own rows are no table of numbers, or have more or fewer than two labels.
    """
    corpus = corpus_of(request, lambda: breast_cancer(size.evaluated, request.seed))
    need_two_classes(corpus, _NAME)
    values = np.asarray(corpus.training.values, dtype=np.float32)
    if values.ndim != _TABLE:
        raise InputError(f"{_NAME} takes rows of numbers, shape (rows, features); given {values.shape}")
    arrays = {"features": values}
    training = TrainingConfig(
        epochs=size.epochs,
        batch_size=32,
        learning_rate=1e-2,
        validation_share=0.15,
        patience=10,
        max_steps=MOST_STEPS,
        threads=THREADS,
        balanced=True,
    )
    arguments = {"features": values.shape[1], "width": size.width}
    classifier = ArrayClassifier(_NAME, "tabular-classification", network, arguments, training, standardise)
    return classifier.made(request, corpus, arrays, progress)


def make(request: Request, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        _NAME,
        "is a tumour malignant, by radius and texture of its cells: one layer, one sigmoid unit",
        "tabular-classification",
        make,
        (
            *DEFAULT_VARIANTS,
            pruned({"use": "structured-pruning", "ratio": 0.25, "recover_steps": 200, "learning_rate": 1e-3}),
        ),
        accuracy_floor=0.82,
    ),
)
