"""A classifier's inputs as requests bring them, and what makes arrays of them: what latency from end to end counts.

raw/encoder.json   what the model takes, and the tokenizer or the scaling of pixels
raw/texts.json     a list of texts, or:
raw/values.npy     images or rows of numbers, first axis: rows
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.files import write_json, write_text
from ...optimize.model import Batch
from ...optimize.plain_data import checked
from .base import Prepared, rows
from .data import Rows
from .encode import Encoder, fast_tokens

FOLDER = "raw"
DISTINCT_BATCHES = 8
"""So many batches are called with in turn, so that no call is answered from what the last one left."""

Request = Callable[[], Batch]
"""Makes the model's arrays of a request's rows, anew at each call."""


def write_raw(prepared: Path, encoder: Encoder, evaluation: Rows, lengths: Sequence[int], batch_size: int) -> None:
    """Keep beside the prepared arrays as many rows as the largest batches take."""
    folder = prepared / FOLDER
    folder.mkdir()
    kept = evaluation.take(range(min(len(evaluation), DISTINCT_BATCHES * batch_size)))
    tokenizer = Path(encoder.tokenizer)
    facts = {
        "task": encoder.task,
        "signature": asdict(encoder.signature),
        "tokenizer": str(tokenizer.absolute() if tokenizer.exists() else encoder.tokenizer),
        "preprocess": encoder.preprocess.model_dump(),
    }
    write_json(folder / "encoder.json", facts)
    if kept.texts is None:
        np.save(folder / "values.npy", np.asarray(kept.values))
        return
    write_json(folder / "texts.json", list(kept.texts))
    for length in lengths:
        _write_fast(folder, encoder, kept, length)


def _write_fast(folder: Path, encoder: Encoder, kept: Rows, length: int) -> None:
    """Keep the library's own tokenizer for a length, if it gives the very arrays that transformers gives."""
    wanted = encoder.arrays(kept, length)
    library = getattr(encoder.loaded_tokenizer, "backend_tokenizer", None)
    if library is None:
        return
    described = library.to_str()  # with the padding and cutting of the call before
    given = fast_tokens(_fast(described), kept.texts or (), encoder.signature)
    if all(np.array_equal(given[name], array) for name, array in wanted.items()):
        write_text(_fast_file(folder, length), described)


def raw_requests(prepared: Prepared, length: int, batch_size: int) -> list[Request]:
    """Requests of one shape; what turns rows into arrays is loaded already.

    Where no rows were kept (a fake model), those of the arrays are the requests', and nothing is left to be done to them.
    """
    starts = range(0, DISTINCT_BATCHES * batch_size, batch_size)
    folder = prepared.folder / FOLDER
    if not folder.is_dir():
        arrays = prepared.arrays("evaluation", length)
        return [partial(rows, arrays, start, batch_size) for start in starts]
    encoder = checked(Encoder, json.loads((folder / "encoder.json").read_text(encoding="utf-8")))
    kept = _kept(folder)
    requests = [kept.take([(start + row) % len(kept) for row in range(batch_size)]) for start in starts]
    fast = _fast_file(folder, length)
    if fast.is_file():
        tokenizer = _fast(fast.read_text(encoding="utf-8"))
        return [partial(fast_tokens, tokenizer, each.texts or (), encoder.signature) for each in requests]
    encoder.arrays(requests[0], length)  # loads the tokenizer
    return [partial(encoder.arrays, each, length) for each in requests]


def _kept(folder: Path) -> Rows:
    texts = folder / "texts.json"
    if texts.is_file():
        return Rows(texts=tuple(json.loads(texts.read_text(encoding="utf-8"))))
    return Rows(values=np.load(folder / "values.npy"))


def _fast(described: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(described)


def _fast_file(folder: Path, length: int) -> Path:
    return folder / f"{length}.tokenizer.json"
