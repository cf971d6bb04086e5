"""Classifiers of arrays (images, rows of numbers): a small network, trained on what a workload has or a user brings."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.model import TensorSpec
from ...optimize.source import Task
from ...optimize.training import Arrays, TrainingConfig, fit
from ..child import Progress
from ..config import Preprocess
from .builtin import Made, Request
from .corpus import Corpus
from .encode import images
from .trained import trained
from .trained_network import keep_weights, made_of

THREADS = 1
"""A step of these networks is so short that a second thread would mostly wait."""


@dataclass(frozen=True)
class ArrayClassifier:
    """A network that classifies arrays, and how it is trained.

    Attributes:
        name: the workload's.
        task: what it is for.
        network: what makes the untrained module; it is called with `arguments`.
        arguments: the sizes of the network, by name.
        training: how it is fitted.
        adapt: sets in the module what is learnt from the rows before they are fitted; it is given both.
    """

    name: str
    task: Task
    network: Callable[..., Any]
    arguments: Mapping[str, int]
    training: TrainingConfig
    adapt: Callable[[Any, Arrays], None] | None = None

    def made(self, request: Request, corpus: Corpus, arrays: Arrays, progress: Progress) -> Made:
        """Train on the corpus, whose rows are `arrays` (or take the trained weights from the cache)."""
        data = [sha256_of_arrays(arrays), corpus.training.labels]
        facts = [inspect.getsource(sys.modules[__name__]), str(self.training), dict(self.arguments), request.seed, data]
        code = sys.modules[self.network.__module__]
        folder = trained(self.name, code, facts, lambda to: self._train(to, corpus, arrays, request.seed, progress))
        return made_of(self.network, self.arguments, self.task, folder, corpus, request.seed)

    def _train(self, folder: Path, corpus: Corpus, arrays: Arrays, seed: int, progress: Progress) -> None:
        import torch

        torch.manual_seed(seed)
        module = self.network(**self.arguments)
        if self.adapt is not None:
            self.adapt(module, arrays)
        fit(module, arrays, corpus.targets, replace(self.training, seed=seed), progress)
        keep_weights(module, folder)


def sha256_of_arrays(arrays: Arrays) -> str:
    """The hash of named arrays with their types and shapes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def pixels_of(corpus: Corpus) -> Arrays:
    """The images to train on as a model is given them: `pixels`, shape (images, channels, height, width), 0 to 1.

    Raises:
        InputError: they have no such shape.
    """
    values = np.asarray(corpus.training.values)
    return dict(images(values, Preprocess(), TensorSpec("pixels", "", ("batch",))))
