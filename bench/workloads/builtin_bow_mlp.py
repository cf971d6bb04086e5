"""Built-in workload `bow-mlp`: which words are in a text, whatever their order, read by a network of linear layers.

The bag is made inside the model, of the numbers of the words: what is served takes a text's numbers, of any length, and not a
row of 10,000 zeros and ones that somebody else must make alike. It is then the same road as for every other text model.
"""

from dataclasses import dataclass
from typing import Any

from ...optimize.training import TrainingConfig
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request, pruned
from .corpus import corpus_of
from .docstrings import by_library
from .trained_network import MOST_STEPS
from .word_classifier import PAD_ID, WordClassifier


@dataclass(frozen=True)
class Size:
    """How large the model and its data are; `length` is in words."""

    vocabulary: int = 10_000
    width: int = 512
    length: int = 100
    train_a_class: int = 2000
    test_a_class: int = 250
    epochs: int = 2
    learning_rate: float = 1e-3


DEFAULT_SIZE = Size()


def bag_network(vocabulary: int, classes: int, width: int) -> Any:
    """Which of the words are there, two layers of `width` units, and the classes' scores."""
    import torch
    from torch import Tensor, nn

    class BagNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(vocabulary, width)
            self.second = nn.Linear(width, width)
            self.scores = nn.Linear(width, classes)
            self.present: Tensor
            self.register_buffer("present", torch.ones(()))  # in the precision that the weights are in

        def forward(self, input_ids: Tensor) -> Tensor:
            there = (input_ids != PAD_ID) * self.present
            bag = there.new_zeros((input_ids.shape[0], vocabulary)).scatter(1, input_ids, there)
            scores: Tensor = self.scores(self.second(self.first(bag).relu()).relu())
            return scores

    return BagNetwork()


def make_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a network of that size (or take it from the cache)."""
    progress(0.02, "reading texts")
    corpus = corpus_of(request, lambda: by_library(size.train_a_class, size.test_a_class))
    arguments = {"vocabulary": size.vocabulary, "classes": len(corpus.class_names), "width": size.width}
    training = TrainingConfig(
        learning_rate=size.learning_rate,
        epochs=size.epochs,
        max_steps=MOST_STEPS,
        batch_size=64,
        validation_share=0.1,
    )
    classifier = WordClassifier("bow-mlp", bag_network, arguments, size.vocabulary, size.length, training)
    return classifier.made(request, corpus, progress)


def make(request: Request, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        "bow-mlp",
        "which library is this docstring from: linear layers over the bag of its words",
        "text-classification",
        make,
        (*DEFAULT_VARIANTS, pruned({"use": "structured-pruning", "ratio": 0.5, "recover_steps": 50})),
        sequence_lengths=(DEFAULT_SIZE.length,),
        accuracy_floor=0.6,
    ),
)
