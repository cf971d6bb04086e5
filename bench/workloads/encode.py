"""Data to the named arrays that a model takes: token ids, images, numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError, first_line
from ...optimize.model import Signature, TensorSpec
from ...optimize.source import Task
from ..config import Preprocess
from .data import Rows

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Encoder:
    """What turns rows into a classifier's arrays.

    Attributes:
        task: what the model is for.
        signature: what it takes.
        tokenizer: texts: folder or hub id of the tokenizer.
        preprocess: images: how pixels are scaled.
    """

    task: Task
    signature: Signature
    tokenizer: str
    preprocess: Preprocess

    def arrays(self, rows: Rows, length: int) -> dict[str, NDArray[Any]]:
        """The model's named inputs, first axis the rows; texts padded or cut to `length` tokens.

        Raises:
            InputError: the rows do not fit the model's inputs.
        """
        inputs = self.signature.inputs
        if rows.texts is not None:
            return dict(tokens(self.loaded_tokenizer, rows.texts, length, self.signature))
        if len(inputs) != 1 or rows.values is None:
            names = ", ".join(spec.name for spec in inputs)
            raise InputError(
                f"the model has {len(inputs)} inputs ({names}); images and tables are given to exactly one"
            )
        if self.task == "image-classification":
            return dict(images(rows.values, self.preprocess, inputs[0]))
        return dict(numbers(rows.values, inputs[0]))

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """The tokenizer, loaded by transformers at the first use."""
        return load_tokenizer(self.tokenizer)


def load_tokenizer(folder: Path | str) -> Any:
    """Load a tokenizer from a folder or hub id; no code of the model's is run.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise InputError(
            f"no tokenizer can be loaded from {folder} ({type(error).__name__}: {lines[0][:200] if lines else ''}); "
            "set workload.tokenizer to a folder with one"
        ) from error


def tokens(tokenizer: Any, texts: Sequence[str], length: int, signature: Signature) -> dict[str, NDArray[np.int64]]:
    """Token arrays (texts, length), padded or cut, for those inputs that the model has.

    Raises:
        InputError: the model has an input that no tokenizer gives, or the tokenizer cannot pad.
    """
    names = [spec.name for spec in signature.inputs]
    unknown = [name for name in names if name not in TOKEN_INPUTS]
    if unknown and len(names) > 1:
        raise InputError(
            f"the model's input '{unknown[0]}' is not one that a tokenizer gives: {', '.join(TOKEN_INPUTS)}"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise InputError("the tokenizer has no padding token and no end-of-text token; add one and save it again")
    made = encoded(
        tokenizer,
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="np",
        return_token_type_ids=True,
    )
    if unknown:
        return {names[0]: made["input_ids"].astype(np.int64)}
    return {name: made[name].astype(np.int64) for name in names}


def fast_tokens(tokenizer: Any, texts: Sequence[str], signature: Signature) -> dict[str, NDArray[np.int64]]:
    """The same by the tokenizers library alone, from a tokenizer that pads and cuts to its length itself."""
    fields = {"attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    made = tokenizer.encode_batch(list(texts))
    return {
        spec.name: np.array([getattr(each, fields.get(spec.name, "ids")) for each in made], dtype=np.int64)
        for spec in signature.inputs
    }


def encoded(tokenizer: Any, texts: str | list[str], **options: Any) -> Any:
    """What a tokenizer makes of a text or texts.

    Raises:
        InputError: its files say what cannot be, which some of them show only now.
    """
    try:
        return tokenizer(texts, **options)
    except Exception as error:
        raise InputError(
            f"the tokenizer cannot be used ({first_line(error)}); save it again with save_pretrained"
        ) from error


def images(values: NDArray[Any], preprocess: Preprocess, spec: TensorSpec) -> dict[str, NDArray[np.float32]]:
    """Images (n, height, width[, channels]) as float32, (x/255 - mean)/std, in the layout of the model's input.

    Integer pixels are divided by 255; floating-point ones are taken as already in 0 to 1.

    Raises:
        InputError: the pixels do not fit the input's shape; both shapes are in the text.
    """
    if values.ndim == 3:  # noqa: PLR2004 - one channel without an axis of its own
        values = values[..., None]
    if values.ndim != 4:  # noqa: PLR2004 - n, height, width, channels
        raise InputError(
            f"images must have shape (n, height, width) or (n, height, width, channels); given {values.shape}"
        )
    scaled = values.astype(np.float32) / (255 if values.dtype.kind in "ui" else 1)
    try:
        mean, std = (
            np.broadcast_to(np.asarray(each, np.float32), values.shape[-1:])
            for each in (preprocess.mean, preprocess.std)
        )
    except ValueError as error:
        raise InputError(
            f"preprocess has {len(preprocess.mean)} means for images of {values.shape[-1]} channels"
        ) from error
    normal = ((scaled - mean) / std).astype(np.float32)
    return {spec.name: _layout(normal, spec)}


def _layout(pixels: NDArray[np.float32], spec: TensorSpec) -> NDArray[np.float32]:
    """Pixels (n, height, width, channels) in the first layout whose shape the input accepts."""
    first = pixels.transpose(0, 3, 1, 2)
    if len(spec.shape) <= 1:
        return np.ascontiguousarray(first)
    candidates = [first, pixels, pixels[..., 0], first.reshape(len(pixels), -1)]
    for candidate in candidates[: None if pixels.shape[-1] == 1 else 2] + candidates[3:]:
        if _accepts(spec, candidate.shape):
            return np.ascontiguousarray(candidate)
    raise InputError(
        f"images of shape {pixels.shape[1:]} do not fit the model's input '{spec.name}' of shape {spec.shape}"
    )


def _accepts(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(spec.shape) and all(
        isinstance(wanted, str) or wanted == given for wanted, given in zip(spec.shape[1:], shape[1:], strict=True)
    )


def numbers(values: NDArray[Any], spec: TensorSpec) -> dict[str, NDArray[np.float32]]:
    """Numbers (n, features) for the model's one input.

    Raises:
        InputError: the number of features is not the input's.
    """
    if len(spec.shape) > 1 and not _accepts(spec, values.shape):
        raise InputError(
            f"rows of {values.shape[1:]} numbers do not fit the model's input '{spec.name}' of shape {spec.shape}"
        )
    return {spec.name: np.ascontiguousarray(values, dtype=np.float32)}
