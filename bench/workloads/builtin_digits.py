"""Built-in workloads `digits-cnn` and `digits-resnet`: convolutional networks that read handwritten digits, plain and residual."""

from dataclasses import dataclass
from typing import Any

from ...optimize.source import Task
from ...optimize.training import TrainingConfig
from ..child import Progress
from .array_classifier import THREADS, ArrayClassifier, pixels_of
from .builtin import FLOAT_VARIANTS, Builtin, Made, Request, pruned
from .corpus import corpus_of
from .digits import handwritten_digits
from .trained_network import MOST_STEPS

_TASK: Task = "image-classification"
_RESIDUAL_VARIANTS = (
    *FLOAT_VARIANTS,
    {"backend": "onnxruntime", "precision": "int8", "steps": [{"use": "static-int8"}]},
    pruned({"use": "structured-pruning", "ratio": 0.3, "recover_steps": 300, "learning_rate": 1e-3}),
)
"""None in torch's INT8: its convolutions stay in floating point, and they hold nearly all weights."""
_PLAIN_VARIANTS = (*_RESIDUAL_VARIANTS, {"backend": "torch", "precision": "int8"})


@dataclass(frozen=True)
class Size:
    """How many digits there are, and how often those to train on are passed over; None for all that are not evaluated."""

    trained_on: int | None = None
    evaluated: int = 600
    epochs: int = 12


DEFAULT_SIZE = Size()


def plain_network(classes: int, channels: int, height: int, width: int) -> Any:
    """Two convolutions, pooling, and two linear layers over images of at least 2 x 2 pixels; the classes' scores."""
    from torch import Tensor, nn

    class PlainNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(channels, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 64, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(64 * (height // 2) * (width // 2), 128),
                nn.ReLU(),
                nn.Linear(128, classes),
            )

        def forward(self, pixels: Tensor) -> Tensor:
            scores: Tensor = self.layers(pixels)
            return scores

    return PlainNetwork()


def residual_network(classes: int, channels: int) -> Any:
    """A convolution, three residual blocks of which the second and third halve the image, and the mean over it (He and others, 2016)."""
    from torch import Tensor, nn

    def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> Any:
        """Its batch norm has a bias, so that it needs none."""
        layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        """Two convolutions; what came in is added, through a convolution of one pixel where the shape changes."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = convolution(inputs, outputs, 3, stride)
            self.second = convolution(outputs, outputs, 3)
            self.past = nn.Identity() if stride == 1 else convolution(inputs, outputs, 1, stride)

        def forward(self, pixels: Tensor) -> Tensor:
            added: Tensor = self.second(self.first(pixels).relu()) + self.past(pixels)
            return added.relu()

    class ResidualNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = convolution(channels, 16, 3)
            self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
            self.scores = nn.Linear(64, classes)

        def forward(self, pixels: Tensor) -> Tensor:
            scores: Tensor = self.scores(self.blocks(self.start(pixels).relu()).mean((2, 3)))
            return scores

    return ResidualNetwork()


def plain_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a `digits-cnn` on so many digits (or take it from the cache)."""
    corpus = corpus_of(request, lambda: handwritten_digits(size.trained_on, size.evaluated, request.seed))
    arrays = pixels_of(corpus)
    _, channels, height, width = arrays["pixels"].shape
    arguments = {"classes": len(corpus.class_names), "channels": channels, "height": height, "width": width}
    classifier = ArrayClassifier("digits-cnn", _TASK, plain_network, arguments, _training(size))
    return classifier.made(request, corpus, arrays, progress)


def residual_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a `digits-resnet` on so many digits (or take it from the cache)."""
    corpus = corpus_of(request, lambda: handwritten_digits(size.trained_on, size.evaluated, request.seed))
    arrays = pixels_of(corpus)
    arguments = {"classes": len(corpus.class_names), "channels": arrays["pixels"].shape[1]}
    classifier = ArrayClassifier("digits-resnet", _TASK, residual_network, arguments, _training(size))
    return classifier.made(request, corpus, arrays, progress)


def _training(size: Size) -> TrainingConfig:
    return TrainingConfig(
        epochs=size.epochs,
        batch_size=64,
        learning_rate=3e-3,
        validation_share=0.1,
        patience=4,
        max_steps=MOST_STEPS,
        threads=THREADS,
    )


def plain(request: Request, progress: Progress) -> Made:
    """Make `digits-cnn` at its default size."""
    return plain_with(DEFAULT_SIZE, request, progress)


def residual(request: Request, progress: Progress) -> Made:
    """Make `digits-resnet` at its default size."""
    return residual_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        "digits-cnn",
        "scikit-learn's handwritten digits, a small convolutional network",
        _TASK,
        plain,
        _PLAIN_VARIANTS,
        accuracy_floor=0.95,
    ),
    Builtin(
        "digits-resnet",
        "scikit-learn's handwritten digits, a residual network with batch norm",
        _TASK,
        residual,
        _RESIDUAL_VARIANTS,
        accuracy_floor=0.95,
    ),
)
