"""Built-in workload `gpt2-text`: a small GPT-2 trained on the installed libraries' docstrings."""

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
from .builtin import Builtin, Made
from .docstrings import balanced, installed_docstrings
from .trained import trained

END = "<|endoftext|>"
_EVALUATION = "evaluation.txt"


@dataclass(frozen=True)
class Size:
    """How large the model and its data are."""

    vocabulary: int = 2048
    width: int = 192
    layers: int = 4
    heads: int = 4
    positions: int = 256
    window: int = 128
    train_a_library: int = 600
    epochs: int = 1


DEFAULT_SIZE = Size()


def make_with(size: Size, seed: int, progress: Progress) -> Made:
    """Train a GPT-2 of that size (or take it from the cache)."""
    progress(0.02, "reading docstrings")
    found = installed_docstrings()
    train = [each.text for each in balanced([each for each in found if not each.held_out], size.train_a_library)]
    test = [each.text for each in balanced([each for each in found if each.held_out], size.train_a_library // 5)]
    facts = [str(size), seed, sha256_of_json([train, test])]
    folder = trained(
        "gpt2-text", sys.modules[__name__], facts, lambda to: _train(to, train, test, size, seed, progress)
    )
    return Made(source=describe("transformers", str(folder), "text-generation"), evaluation_file=folder / _EVALUATION)


def _train(folder: Path, train: Sequence[str], test: Sequence[str], size: Size, seed: int, progress: Progress) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _tokenizer(train, size)
    tokenizer.save_pretrained(folder)
    (folder / _EVALUATION).write_text("\n".join(test), encoding="utf-8")
    torch.manual_seed(seed)
    shuffled = np.random.default_rng(seed).permutation(len(train))
    ids = np.array(tokenizer("\n".join(train[int(place)] for place in shuffled))["input_ids"], dtype=np.int64)
    windows = ids[: len(ids) // size.window * size.window].reshape(-1, size.window)
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
    training = TrainingConfig(learning_rate=1e-3, epochs=size.epochs, batch_size=4, weight_decay=0.01, seed=seed)
    fit(module, {"input_ids": windows}, None, training, progress)
    module.save_pretrained(folder)


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


def make(seed: int, progress: Progress) -> Made:
    """Make the workload at its default size."""
    return make_with(DEFAULT_SIZE, seed, progress)


WORKLOAD = Builtin(
    "gpt2-text",
    "a small GPT-2 trained on the installed libraries' docstrings",
    "text-generation",
    make,
)
