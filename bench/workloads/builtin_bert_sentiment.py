"""Built-in workload `bert-sentiment`: a BERT whose pooled output goes through dropout into one sigmoid unit.

It is trained from nothing on docstrings (the standard library's or another's), or a BERT that was trained already is
fine-tuned.
"""

import inspect
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.loading import describe
from ...optimize.training import TrainingConfig, fit
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request, pruned
from .builtin_docstrings_bert import bert_config, wordpieces
from .corpus import Corpus, corpus_of, need_two_classes
from .docstrings import stdlib_or_other
from .encode import load_tokenizer
from .pretrained import need_kind, pretrained
from .trained import trained

_NAME = "bert-sentiment"
_ONE_UNIT: dict[str, Any] = {"num_labels": 1, "classifier_dropout": 0.3}
_FRESH = ("classifier.", "bert.pooler.")
_CALIBRATION = 1000


@dataclass(frozen=True)
class Size:
    """How large the model is that is trained from nothing, and its data; `length` holds for fine-tuning too."""

    vocabulary: int = 5000
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    length: int = 128
    train_a_class: int = 1000
    test_a_class: int = 300
    epochs: int = 3
    learning_rate: float = 1e-3


DEFAULT_SIZE = Size()
FINE_TUNING = TrainingConfig(learning_rate=2e-5, batch_size=32, epochs=3)


def make_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a BERT of that size, or fine-tune the request's model (or take either from the cache).

    Raises:
        ConfigError: the request's model is no BERT.
        InputError: it is damaged, or the user's own texts have more or fewer than two labels.
    """
    start = None
    if request.model is not None:
        need_kind(request.model, "bert", _NAME)
        start = describe("transformers", request.model, "text-classification")
    progress(0.02, "reading texts")
    corpus = corpus_of(request, lambda: stdlib_or_other(size.train_a_class, size.test_a_class))
    need_two_classes(corpus, _NAME)
    made_by = [inspect.getsource(each) for each in (bert_config, wordpieces, pretrained)]
    facts = [made_by, str(size), request.seed, corpus.sha256, start and start.sha256]
    folder = trained(_NAME, sys.modules[__name__], facts, lambda to: _train(to, corpus, size, request, progress))
    return Made(
        source=describe("transformers", str(folder), "text-classification"),
        evaluation=corpus.evaluation,
        calibration=corpus.calibration(_CALIBRATION, request.seed),
        class_names=corpus.class_names,
    )


def _train(folder: Path, corpus: Corpus, size: Size, request: Request, progress: Progress) -> None:
    import torch

    torch.manual_seed(request.seed)
    started = _from_nothing(corpus, size) if request.model is None else _given(request.model)
    encoded = started.tokenizer(
        list(corpus.texts),
        padding="longest",
        truncation=True,
        max_length=min(size.length, started.module.config.max_position_embeddings),
        return_tensors="np",
    )
    arrays = {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    fit(started.module, arrays, corpus.targets, replace(started.training, seed=request.seed), progress)
    started.module.save_pretrained(folder)
    started.tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class _Started:
    """What is trained, and how."""

    tokenizer: Any
    module: Any
    training: TrainingConfig


def _from_nothing(corpus: Corpus, size: Size) -> _Started:
    from transformers import BertForSequenceClassification

    tokenizer = wordpieces(corpus.texts, size.vocabulary)
    module = BertForSequenceClassification(
        bert_config(len(tokenizer), size.hidden, size.layers, size.heads, **_ONE_UNIT)
    )
    training = TrainingConfig(learning_rate=size.learning_rate, epochs=size.epochs, batch_size=32, weight_decay=0.01)
    return _Started(tokenizer, module, training)


def _given(model: str) -> _Started:
    from transformers import BertForSequenceClassification

    module = pretrained(model, BertForSequenceClassification, _FRESH, **_ONE_UNIT)
    return _Started(load_tokenizer(model), module, FINE_TUNING)


def make(request: Request, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        _NAME,
        "is this docstring the standard library's: a small BERT with one sigmoid unit",
        "text-classification",
        make,
        (
            *DEFAULT_VARIANTS,
            pruned({"use": "structured-pruning", "ratio": 0.25, "recover_steps": 60, "learning_rate": 5e-4}),
        ),
        sequence_lengths=(DEFAULT_SIZE.length,),
        takes_model=True,
        accuracy_floor=0.75,
    ),
)
