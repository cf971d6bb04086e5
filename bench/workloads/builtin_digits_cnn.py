"""Built-in workload `digits-cnn`: scikit-learn's handwritten digits (8 x 8 pixels) and a small convolutional network."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.loading import describe
from ...optimize.training import TrainingConfig, fit
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made
from .data import Rows
from .trained import trained

_EVALUATED = 600
_CALIBRATION = 200
_FACTORY = f"{__name__}:network"


def network() -> Any:
    """Two convolutions, pooling, and two linear layers over 8 x 8 pixels of one channel; scores of ten digits."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 16, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def make(seed: int, progress: Progress) -> Made:
    """Train on 1,197 digits (or take the trained weights from the cache); 600 others are evaluated."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))
    images = (pixels.reshape(-1, 8, 8) / 16).astype(np.float32)[order]
    labels = labels.astype(np.int64)[order]

    def train(folder: Path) -> None:
        from safetensors.torch import save_model

        module = network()
        inputs = {"input": images[_EVALUATED:, None]}
        config = TrainingConfig(
            epochs=12, batch_size=64, learning_rate=3e-3, validation_share=0.1, patience=4, seed=seed
        )
        fit(module, inputs, labels[_EVALUATED:], config, progress)
        save_model(module, str(folder / "model.safetensors"))

    folder = trained("digits-cnn", sys.modules[__name__], [seed], train)
    texts = tuple(str(label) for label in labels)
    return Made(
        source=describe("module", _FACTORY, "image-classification", weights=str(folder / "model.safetensors")),
        evaluation=Rows(values=images[:_EVALUATED], labels=texts[:_EVALUATED]),
        calibration=Rows(
            values=images[_EVALUATED : _EVALUATED + _CALIBRATION], labels=texts[_EVALUATED : _EVALUATED + _CALIBRATION]
        ),
        class_names=tuple(str(digit) for digit in range(10)),
    )


WORKLOAD = Builtin(
    "digits-cnn",
    "scikit-learn's handwritten digits, a small convolutional network",
    "image-classification",
    make,
    (
        *DEFAULT_VARIANTS[:3],
        {"backend": "onnxruntime", "precision": "int8", "steps": [{"use": "static-int8"}]},
    ),
)
