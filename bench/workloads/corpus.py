"""Labelled rows for the built-in workloads: those that each has by default, or a user's own."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError
from ...optimize.files import sha256_of_json
from .builtin import Request
from .data import Rows
from .labels import class_names_of, encode

_TWO = 2
_SHOWN = 3


@dataclass(frozen=True)
class Corpus:
    """Labelled rows to train on, and others to evaluate."""

    training: Rows
    evaluation: Rows

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts to train on."""
        return self.training.texts or ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that can be learnt, sorted: of two the second is the one that a single score speaks for."""
        return class_names_of(self.training.labels or (), None, None)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The class numbers of the rows to train on, shape (rows,)."""
        return encode(self.training.labels or (), self.class_names)

    @property
    def sha256(self) -> str:
        """The hash of the texts that are trained on."""
        return sha256_of_json([self.training.texts, self.training.labels])

    def calibration(self, rows: int, seed: int) -> Rows:
        """At most so many of the rows that were trained on: a seeded draw."""
        return self.training.take(np.random.default_rng(seed).permutation(len(self.training))[:rows])


def corpus_of(request: Request, default: Callable[[], Corpus]) -> Corpus:
    """The user's own rows where the request brings them, else the workload's."""
    if request.training is None or request.evaluation is None:
        return default()
    return Corpus(request.training, request.evaluation)


def need_two_classes(corpus: Corpus, workload: str) -> None:
    """Hold labels to what one sigmoid unit can tell apart.

    Raises:
        InputError: there are more or fewer than two classes.
    """
    names = corpus.class_names
    if len(names) != _TWO:
        given = f"{len(names)} label{'s' if names[1:] else ''} ({', '.join(names[:_SHOWN])}{', ...' if names[_SHOWN:] else ''})"
        raise InputError(
            f"{workload} tells two classes apart, and the training data has {given}; "
            "`weighbridge workloads` lists those that take more"
        )
