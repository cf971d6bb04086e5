"""Built-in workload `docstrings-bert`: which library is this docstring from, answered by a small BERT trained on them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.files import sha256_of_json
from ...optimize.loading import describe
from ...optimize.training import TrainingConfig, fit
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made
from .data import Rows
from .docstrings import Docstring, balanced, installed_docstrings
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


@dataclass(frozen=True)
class Split:
    """Docstrings to train on and, from other modules, to evaluate."""

    train: tuple[Docstring, ...]
    test: tuple[Docstring, ...]

    @property
    def libraries(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(sorted({each.library for each in self.train}))


def split(size: Size) -> Split:
    """Read the installed libraries' docstrings and keep so many of each."""
    found = installed_docstrings()
    train = balanced([each for each in found if not each.held_out], size.train_a_library)
    test = balanced([each for each in found if each.held_out], size.test_a_library)
    return Split(tuple(train), tuple(test))


def rows_of(docstrings: Sequence[Docstring]) -> Rows:
    """Docstrings as texts and labels."""
    return Rows(texts=tuple(each.text for each in docstrings), labels=tuple(each.library for each in docstrings))


def make_with(size: Size, seed: int, progress: Progress) -> Made:
    """Train a BERT of that size (or take it from the cache)."""
    progress(0.02, "reading docstrings")
    data = split(size)
    facts = [str(size), seed, sha256_of_json([[each.text, each.library] for each in data.train])]
    folder = trained("docstrings-bert", sys.modules[__name__], facts, lambda to: _train(to, data, size, seed, progress))
    shuffled = np.random.default_rng(seed).permutation(len(data.train))[:_CALIBRATION]
    return Made(
        source=describe("transformers", str(folder), "text-classification"),
        evaluation=rows_of(data.test),
        calibration=rows_of([data.train[int(place)] for place in shuffled]),
        class_names=data.libraries,
    )


def _train(folder: Path, data: Split, size: Size, seed: int, progress: Progress) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _tokenizer([each.text for each in data.train], size)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    names = dict(enumerate(data.libraries))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        max_position_embeddings=512,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    module = BertForSequenceClassification(config)
    texts = [each.text for each in data.train]
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=size.length, return_tensors="np")
    labels = np.array([data.libraries.index(each.library) for each in data.train], dtype=np.int64)
    arrays = {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    training = TrainingConfig(learning_rate=1e-3, epochs=size.epochs, batch_size=32, weight_decay=0.01, seed=seed)
    fit(module, arrays, labels, training, progress)
    module.save_pretrained(folder)


def _tokenizer(texts: Sequence[str], size: Size) -> Any:
    """A lower-casing WordPiece tokenizer learnt from the texts."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    learnt = BertWordPieceTokenizer(lowercase=True)
    learnt.train_from_iterator(texts, vocab_size=size.vocabulary, show_progress=False)
    return BertTokenizerFast(tokenizer_object=learnt._tokenizer, model_max_length=512)  # noqa: SLF001 - the wrapped tokenizer has no public name


def make(seed: int, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, seed, progress)


WORKLOAD = Builtin(
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
)
