"""Built-in workload `row-lstm`: three stacked recurrent layers that read an image row by row."""

from dataclasses import dataclass
from typing import Any

from ...optimize.source import Task
from ...optimize.training import TrainingConfig
from ..child import Progress
from .array_classifier import THREADS, ArrayClassifier, pixels_of
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request, pruned
from .corpus import corpus_of
from .digits import handwritten_digits
from .trained_network import MOST_STEPS

_TASK: Task = "image-classification"


@dataclass(frozen=True)
class Size:
    """How wide the layers are; how many digits there are (None: all others), how often they are passed over, and how fast."""

    width: int = 128
    trained_on: int | None = None
    evaluated: int = 600
    epochs: int = 30
    learning_rate: float = 3e-3


DEFAULT_SIZE = Size()


def network(classes: int, row: int, width: int) -> Any:
    """Three recurrent layers over rows of so many numbers; the state after the last row gives the classes' scores."""
    from torch import Tensor, nn

    class RowNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(row, width, num_layers=3, batch_first=True)
            self.scores = nn.Linear(width, classes)

        def forward(self, pixels: Tensor) -> Tensor:
            states, _ = self.recurrent(pixels.transpose(1, 2).flatten(2))  # (images, rows, channels x columns)
            scores: Tensor = self.scores(states[:, -1])
            return scores

    return RowNetwork()


def make_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a network of that size (or take it from the cache)."""
    corpus = corpus_of(request, lambda: handwritten_digits(size.trained_on, size.evaluated, request.seed))
    arrays = pixels_of(corpus)
    _, channels, _, columns = arrays["pixels"].shape
    arguments = {"classes": len(corpus.class_names), "row": channels * columns, "width": size.width}
    training = TrainingConfig(
        epochs=size.epochs,
        batch_size=64,
        learning_rate=size.learning_rate,
        validation_share=0.1,
        patience=6,
        max_steps=MOST_STEPS,
        threads=THREADS,
    )
    return ArrayClassifier("row-lstm", _TASK, network, arguments, training).made(request, corpus, arrays, progress)


def make(request: Request, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        "row-lstm",
        "scikit-learn's handwritten digits, read row by row by three recurrent layers",
        _TASK,
        make,
        (
            *DEFAULT_VARIANTS,
            pruned({"use": "structured-pruning", "ratio": 0.3, "recover_steps": 300, "learning_rate": 1e-3}),
        ),
        accuracy_floor=0.92,
    ),
)
