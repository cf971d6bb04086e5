"""Cut a token stream into prompts to time and windows to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError
from .prompts import Tokens, left_padded

TIMED = 64
"""Prompts to time are taken from so many places."""
WINDOWS = 64
LEAST_WINDOWS = 2
_UTF8_GROWS_AT = (0x80, 0x800, 0x10000)
"""From these code points on a character takes two, three, four bytes."""


@dataclass(frozen=True)
class TokenText:
    """A text as tokens: their ids, and the UTF-8 bytes of the text that each of them stands for; shape (tokens,) each."""

    ids: Tokens
    bytes: Tokens


@dataclass(frozen=True)
class Windows:
    """Windows of text to score.

    Attributes:
        ids: their tokens, shape (windows, size).
        mask: 0 for padding on the left, shape (windows, size).
        scored: 1 for the tokens whose likelihood counts, given all before them; never the first; shape (windows, size).
        bytes: UTF-8 bytes of the text that the scored tokens stand for, shape (windows,).
    """

    ids: Tokens
    mask: Tokens
    scored: Tokens
    bytes: Tokens

    def __len__(self) -> int:
        return len(self.ids)

    def write(self, folder: Path) -> None:
        """Write the arrays into `folder`/0, the bytes beside it."""
        (folder / "0").mkdir(parents=True)
        for name, array in (("input_ids", self.ids), ("attention_mask", self.mask), ("scored", self.scored)):
            np.save(folder / "0" / f"{name}.npy", array)
        np.save(folder / "bytes.npy", self.bytes)


def bytes_of_tokens(text: str, ends: NDArray[np.int64]) -> Tokens:
    """The UTF-8 bytes of each token's part of the text, white space that lies between two tokens counted to the later.

    Args:
        text: what was tokenized.
        ends: where each token ends in it, in characters, as a tokenizer's offsets say; 0 for special tokens.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + np.searchsorted(_UTF8_GROWS_AT, codes, side="right")
    places = np.concatenate([[0], np.cumsum(widths)])
    return np.asarray(np.diff(places[np.maximum.accumulate(ends)], prepend=0), dtype=np.int64)


def prompts_of(ids: Tokens, length: int, random: np.random.Generator) -> Tokens:
    """64 prompts of exactly `length` tokens from random places, shape (64, length).

    Raises:
        InputError: the text is shorter than one prompt.
    """
    _need(ids, length)
    starts = random.integers(0, len(ids) - length + 1, TIMED)
    return np.stack([ids[start : start + length] for start in starts])


def prompts_apart(ids: Tokens, length: int, most: int) -> Tokens:
    """Up to `most` prompts of `length` tokens, spread evenly, without overlap; shape (prompts, length).

    Raises:
        InputError: the text is shorter than one prompt.
    """
    _need(ids, length)
    return np.stack([ids[start : start + length] for start in _spread(len(ids), length, length, most)])


def _need(ids: Tokens, length: int) -> None:
    if len(ids) < length:
        raise InputError(
            f"the text has {len(ids)} tokens, fewer than one prompt of {length}; give more text or a shorter prompt"
        )


def _spread(total: int, size: int, stride: int, most: int) -> NDArray[np.int64]:
    """Where windows start: of all that lie `stride` apart, up to `most`, spread evenly."""
    count = 1 + max(0, total - size) // stride
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64)) * stride


def windows_of(text: TokenText, size: int, stride: int, most: int | None = None) -> Windows:
    """Up to 64 windows of `size` tokens that start `stride` apart, spread evenly; of each its last `stride` tokens are scored.

    So no token is scored twice, and each has at least size - stride before it; the first token of a window has none and is
    not scored, and where the text starts all others of its window are.

    Raises:
        InputError: the text is shorter than two windows.
    """
    ids = text.ids
    count = min(WINDOWS, most or WINDOWS)
    if len(ids) < size + stride or count < LEAST_WINDOWS:
        raise InputError(
            f"the text has {len(ids)} tokens, of which {count} windows are wanted; perplexity needs at least {LEAST_WINDOWS} "
            f"windows of {size} tokens, {stride} apart. Give more text, a smaller workload.window, or more max_examples"
        )
    starts = _spread(len(ids), size, stride, count)
    windows = np.stack([ids[start : start + size] for start in starts])
    scored = np.zeros_like(windows)
    scored[:, max(1, size - stride) :] = 1
    scored[starts == 0, 1:] = 1
    sizes = np.stack([text.bytes[start : start + size] for start in starts])
    return Windows(windows, np.ones_like(windows), scored, (sizes * scored).sum(axis=1))


def windows_of_references(prompts: Sequence[Tokens], references: Sequence[TokenText], pad: int) -> Windows:
    """A window a prompt: the prompt, then its reference, whose tokens are scored; padded on the left."""
    whole = [np.concatenate([prompt, text.ids]) for prompt, text in zip(prompts, references, strict=True)]
    ids, mask = left_padded(whole, pad=pad)
    scored = np.zeros_like(ids)
    for row, text in enumerate(references):
        scored[row, ids.shape[1] - len(text.ids) :] = 1
    return Windows(ids, mask, scored, np.array([int(text.bytes.sum()) for text in references], dtype=np.int64))
