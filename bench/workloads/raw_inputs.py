"""A classifier's inputs as requests bring them, and what makes arrays of them: what latency from end to end counts.

raw/encoder.json   what the model takes, and the tokenizer or the scaling of pixels
raw/texts.json     a list of texts, or:
raw/values.npy     images or rows of numbers, first axis: rows
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from ...optimize.files import write_json
from ...optimize.model import Batch
from ...optimize.plain_data import checked
from .base import Prepared, rows
from .data import Rows
from .encode import Encoder

FOLDER = "raw"
DISTINCT_BATCHES = 8
"""So many batches are called with in turn, so that no call is answered from what the last one left."""

Request = Callable[[], Batch]
"""Makes the model's arrays of a request's rows, anew at each call."""


def write_raw(prepared: Path, encoder: Encoder, evaluation: Rows, batch_size: int) -> None:
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
    if kept.texts is not None:
        write_json(folder / "texts.json", list(kept.texts))
    else:
        np.save(folder / "values.npy", np.asarray(kept.values))


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
    encoder.arrays(kept.take([0]), length)  # loads the tokenizer
    places = [[(start + row) % len(kept) for row in range(batch_size)] for start in starts]
    return [partial(encoder.arrays, kept.take(each), length) for each in places]


def _kept(folder: Path) -> Rows:
    texts = folder / "texts.json"
    if texts.is_file():
        return Rows(texts=tuple(json.loads(texts.read_text(encoding="utf-8"))))
    return Rows(values=np.load(folder / "values.npy"))
