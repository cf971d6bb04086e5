"""Built-in workload `docstrings-bert`: which library is this docstring from, answered by a small BERT trained on them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.loading import describe
from ...optimize.training import TrainingConfig, fit
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request
from .corpus import Corpus, corpus_of
from .docstrings import by_library
from .trained import trained

_CALIBRATION = 256


@dataclass(frozen=True)
class Size:
    """How large the model and its data are."""

    vocabulary: int = 5000
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    length: int = 32
    train_a_library: int = 1200
    test_a_library: int = 250
    epochs: int = 3


DEFAULT_SIZE = Size()


def make_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a BERT of that size (or take it from the cache)."""
    progress(0.02, "reading texts")
    corpus = corpus_of(request, lambda: by_library(size.train_a_library, size.test_a_library))
    facts = [str(size), request.seed, corpus.sha256]
    code = sys.modules[__name__]
    folder = trained("docstrings-bert", code, facts, lambda to: _train(to, corpus, size, request.seed, progress))
    return Made(
        source=describe("transformers", str(folder), "text-classification"),
        evaluation=corpus.evaluation,
        calibration=corpus.calibration(_CALIBRATION, request.seed),
        class_names=corpus.class_names,
    )


def _train(folder: Path, corpus: Corpus, size: Size, seed: int, progress: Progress) -> None:
    import torch
    from transformers import BertForSequenceClassification

    tokenizer = wordpieces(corpus.texts, size.vocabulary)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    names = dict(enumerate(corpus.class_names))
    config = bert_config(
        len(tokenizer),
        size.hidden,
        size.layers,
        size.heads,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    module = BertForSequenceClassification(config)
    encoded = tokenizer(
        list(corpus.texts), padding="max_length", truncation=True, max_length=size.length, return_tensors="np"
    )
    arrays = {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    training = TrainingConfig(learning_rate=1e-3, epochs=size.epochs, batch_size=32, weight_decay=0.01, seed=seed)
    fit(module, arrays, corpus.targets, training, progress)
    module.save_pretrained(folder)


def bert_config(vocabulary: int, hidden: int, layers: int, heads: int, **settings: Any) -> Any:
    """The config of a small BERT for at most 512 tokens."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        **settings,
    )


def wordpieces(texts: Sequence[str], vocabulary: int) -> Any:
    """A lower-casing WordPiece tokenizer learnt from the texts."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    learnt = BertWordPieceTokenizer(lowercase=True)
    learnt.train_from_iterator(texts, vocab_size=vocabulary, show_progress=False)
    return BertTokenizerFast(tokenizer_object=learnt._tokenizer, model_max_length=512)  # noqa: SLF001 - the wrapped tokenizer has no public name


def make(request: Request, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        "docstrings-bert",
        "which library is this docstring from: a small BERT trained on the installed libraries",
        "text-classification",
        make,
        (
            *DEFAULT_VARIANTS,
            {
                "name": "onnxruntime-int8-static",
                "backend": "onnxruntime",
                "precision": "int8",
                "steps": [{"use": "static-int8"}],
            },
        ),
    ),
)
