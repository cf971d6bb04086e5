"""Built-in workloads `topic-lstm` and `sentiment-lstm`: recurrent networks that read a text word by word."""

from dataclasses import dataclass
from typing import Any

from ...optimize.training import TrainingConfig
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request, pruned
from .corpus import corpus_of, need_two_classes
from .docstrings import by_library, stdlib_or_other
from .trained_network import MOST_STEPS
from .word_classifier import PAD_ID, WordClassifier

_DROPOUT = 0.2


@dataclass(frozen=True)
class Size:
    """How large a model and its data are; `length` is in words."""

    embedding: int
    width: int
    length: int
    train_a_class: int
    test_a_class: int
    epochs: int
    learning_rate: float
    vocabulary: int = 10_000


TOPIC = Size(embedding=16, width=32, length=100, train_a_class=2000, test_a_class=250, epochs=8, learning_rate=5e-3)
SENTIMENT = Size(
    embedding=50, width=128, length=500, train_a_class=2000, test_a_class=300, epochs=4, learning_rate=3e-3
)


def topic_network(vocabulary: int, classes: int, embedding: int, width: int) -> Any:
    """An embedding and two recurrent layers, dropout after each; the last word's state gives the classes' scores."""
    from torch import Tensor, nn

    class TopicNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
            self.first = lstm(embedding, width)
            self.second = lstm(width, width)
            self.dropout = nn.Dropout(_DROPOUT)
            self.scores = nn.Linear(width, classes)

        def forward(self, input_ids: Tensor) -> Tensor:
            states, _ = self.first(self.embedding(input_ids))
            states, _ = self.second(self.dropout(states))
            scores: Tensor = self.scores(self.dropout(states[:, -1]))
            return scores

    return TopicNetwork()


def sentiment_network(vocabulary: int, embedding: int, width: int) -> Any:
    """An embedding, a recurrent layer, and one unit on the last word's state: the logit of the second class."""
    from torch import Tensor, nn

    class SentimentNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
            self.recurrent = lstm(embedding, width)
            self.score = nn.Linear(width, 1)

        def forward(self, input_ids: Tensor) -> Tensor:
            states, _ = self.recurrent(self.embedding(input_ids))
            logit: Tensor = self.score(states[:, -1])
            return logit

    return SentimentNetwork()


def lstm(inputs: int, width: int) -> Any:
    """An LSTM whose state stays exactly zero while it reads zeros, as the padding on the left of a text is.

    For that it must add nothing to what it reads: its biases are zero and are not trained. (They are there because torch's
    own quantization refuses an LSTM without.)
    """
    from torch import nn

    layer = nn.LSTM(inputs, width, batch_first=True)
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            parameter.requires_grad = False
    return layer


def topic_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a `topic-lstm` of that size (or take it from the cache)."""
    progress(0.02, "reading texts")
    corpus = corpus_of(request, lambda: by_library(size.train_a_class, size.test_a_class))
    arguments = {
        "vocabulary": size.vocabulary,
        "classes": len(corpus.class_names),
        "embedding": size.embedding,
        "width": size.width,
    }
    classifier = WordClassifier("topic-lstm", topic_network, arguments, size.vocabulary, size.length, _training(size))
    return classifier.made(request, corpus, progress)


def sentiment_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a `sentiment-lstm` of that size (or take it from the cache).

    Raises:
        InputError: the user's own texts have more or fewer than two labels.
    """
    progress(0.02, "reading texts")
    corpus = corpus_of(request, lambda: stdlib_or_other(size.train_a_class, size.test_a_class))
    need_two_classes(corpus, "sentiment-lstm")
    arguments = {"vocabulary": size.vocabulary, "embedding": size.embedding, "width": size.width}
    classifier = WordClassifier(
        "sentiment-lstm", sentiment_network, arguments, size.vocabulary, size.length, _training(size)
    )
    return classifier.made(request, corpus, progress)


def _training(size: Size) -> TrainingConfig:
    return TrainingConfig(
        learning_rate=size.learning_rate,
        epochs=size.epochs,
        max_steps=MOST_STEPS,
        batch_size=32,
        weight_decay=0.1,
        validation_share=0.1,
        threads=1,  # word by word, a second one would mostly wait
    )


def topic(request: Request, progress: Progress) -> Made:
    """Make `topic-lstm` at its default size."""
    return topic_with(TOPIC, request, progress)


def sentiment(request: Request, progress: Progress) -> Made:
    """Make `sentiment-lstm` at its default size."""
    return sentiment_with(SENTIMENT, request, progress)


WORKLOADS = (
    Builtin(
        "topic-lstm",
        "which library is this docstring from: two recurrent layers over its words",
        "text-classification",
        topic,
        (
            *DEFAULT_VARIANTS,
            pruned({"use": "structured-pruning", "ratio": 0.25, "recover_steps": 150, "learning_rate": 1e-3}),
        ),
        sequence_lengths=(TOPIC.length,),
        accuracy_floor=0.5,
    ),
    Builtin(
        "sentiment-lstm",
        "is this docstring the standard library's: a recurrent layer over up to 500 words, one sigmoid unit",
        "text-classification",
        sentiment,
        (
            *DEFAULT_VARIANTS,
            pruned({"use": "structured-pruning", "ratio": 0.25, "recover_steps": 50, "learning_rate": 1e-3}),
        ),
        sequence_lengths=(SENTIMENT.length,),
        accuracy_floor=0.7,
    ),
)
