"""Built-in workload `gpt2-text`: a small GPT-2 trained on the installed libraries' docstrings, or a GPT-2 that is fine-tuned."""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.errors import InputError
from ...optimize.files import sha256_of_json
from ...optimize.loading import describe
from ...optimize.training import TrainingConfig, fit
from ..child import Progress
from .builtin import DEFAULT_VARIANTS, Builtin, Made, Request, pruned
from .docstrings import balanced, installed_docstrings
from .encode import load_tokenizer
from .pretrained import need_kind, pretrained
from .trained import trained

END = "<|endoftext|>"
_NAME = "gpt2-text"
_EVALUATION = "evaluation.txt"
_CALIBRATION = "calibration.txt"
_CALIBRATED_ON = 0.1
"""The last share of the training text, enough to teach a pruned model again; of a short text the whole."""
_SHORT = 50_000


@dataclass(frozen=True)
class Size:
    """How large the model is that is trained from nothing, and its data; `window` (in tokens) holds for fine-tuning too."""

    vocabulary: int = 2048
    width: int = 192
    layers: int = 4
    heads: int = 4
    positions: int = 256
    window: int = 128
    train_a_library: int = 600
    epochs: int = 1
    batch_size: int = 4
    learning_rate: float = 1e-3


DEFAULT_SIZE = Size()
FINE_TUNING = TrainingConfig(learning_rate=5e-5, batch_size=4)


@dataclass(frozen=True)
class _Texts:
    """What is trained on, and what is evaluated."""

    training: str
    evaluation: str


def make_with(size: Size, request: Request, progress: Progress) -> Made:
    """Train a GPT-2 of that size, or fine-tune the request's model (or take either from the cache).

    Raises:
        ConfigError: the request's model is no GPT-2.
        InputError: it is damaged, or the user's own text is too short to train on.
    """
    start = None
    if request.model is not None:
        need_kind(request.model, "gpt2", _NAME)
        start = describe("transformers", request.model, "text-generation")
    progress(0.02, "reading texts")
    texts = _texts_of(request, size)
    facts = [
        inspect.getsource(pretrained),
        str(size),
        request.seed,
        sha256_of_json([texts.training, texts.evaluation]),
        start and start.sha256,
    ]
    folder = trained(_NAME, sys.modules[__name__], facts, lambda to: _train(to, texts, size, request, progress))
    return Made(
        source=describe("transformers", str(folder), "text-generation"),
        evaluation_file=folder / _EVALUATION,
        calibration_file=folder / _CALIBRATION,
    )


def _texts_of(request: Request, size: Size) -> _Texts:
    """The user's own texts where the request brings them, else docstrings, shuffled to train on, a line each."""
    if request.training_text is not None and request.evaluation_text is not None:
        return _Texts(request.training_text, request.evaluation_text)
    found = installed_docstrings()
    train = [each.text for each in balanced([each for each in found if not each.held_out], size.train_a_library)]
    test = [each.text for each in balanced([each for each in found if each.held_out], size.train_a_library // 5)]
    shuffled = np.random.default_rng(request.seed).permutation(len(train))
    return _Texts("\n".join(train[int(place)] for place in shuffled), "\n".join(test))


def _train(folder: Path, texts: _Texts, size: Size, request: Request, progress: Progress) -> None:
    import torch

    torch.manual_seed(request.seed)
    started = _from_nothing(texts.training, size) if request.model is None else _given(request.model)
    window = min(size.window, started.module.config.n_positions)
    windows = _windows(started.tokenizer, texts.training, window)
    fit(started.module, {"input_ids": windows}, None, replace(started.training, seed=request.seed), progress)
    started.module.save_pretrained(folder)
    started.tokenizer.save_pretrained(folder)
    (folder / _EVALUATION).write_text(texts.evaluation, encoding="utf-8")
    kept = max(_SHORT, round(_CALIBRATED_ON * len(texts.training)))
    (folder / _CALIBRATION).write_text(texts.training[-kept:], encoding="utf-8")


def _windows(tokenizer: Any, text: str, window: int) -> Any:
    """The text's tokens, shape (windows, tokens), one window after another and without overlap.

    Raises:
        InputError: they are fewer than one window.
    """
    ids = np.array(tokenizer(text)["input_ids"], dtype=np.int64)
    if len(ids) < window:
        raise InputError(
            f"{_NAME} trains on windows of {window} tokens, and the training text has {len(ids)}; give more text"
        )
    return ids[: len(ids) // window * window].reshape(-1, window)


@dataclass(frozen=True)
class _Started:
    """What is trained, and how."""

    tokenizer: Any
    module: Any
    training: TrainingConfig


def _from_nothing(text: str, size: Size) -> _Started:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _tokenizer(text.splitlines(), size)
    end = tokenizer.eos_token_id
    module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            n_positions=size.positions,
            bos_token_id=end,
            eos_token_id=end,
            resid_pdrop=0.0,  # one pass over the text: there is nothing to memorize
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            attn_implementation="sdpa",
        )
    )
    training = TrainingConfig(
        learning_rate=size.learning_rate, epochs=size.epochs, batch_size=size.batch_size, weight_decay=0.01
    )
    return _Started(tokenizer, module, training)


def _given(model: str) -> _Started:
    from transformers import GPT2LMHeadModel

    return _Started(load_tokenizer(model), pretrained(model, GPT2LMHeadModel), FINE_TUNING)


def _tokenizer(texts: Sequence[str], size: Size) -> Any:
    """A byte-level BPE tokenizer learnt from the texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2TokenizerFast

    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(texts, vocab_size=size.vocabulary, special_tokens=[END], show_progress=False)
    return GPT2TokenizerFast(
        tokenizer_object=learnt._tokenizer,  # noqa: SLF001 - the wrapped tokenizer has no public name
        model_max_length=1_000_000,
        eos_token=END,
        bos_token=END,
        unk_token=END,
    )


def make(request: Request, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, request, progress)


WORKLOADS = (
    Builtin(
        _NAME,
        "a small GPT-2 trained on the installed libraries' docstrings",
        "text-generation",
        make,
        (
            *DEFAULT_VARIANTS,
            pruned({"use": "structured-pruning", "ratio": 0.25, "recover_steps": 15, "learning_rate": 5e-4}),
        ),
        max_new_tokens=100,
        takes_model=True,
    ),
)
