"""Requests from raw inputs: what is made of them at each call is what was prepared for the model's own calls."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from weighbridge.bench.config import MeasureConfig, WorkloadConfig
from weighbridge.bench.workloads.base import Prepared, rows
from weighbridge.bench.workloads.data import Rows
from weighbridge.bench.workloads.prepare import Material
from weighbridge.bench.workloads.raw_inputs import FOLDER, raw_requests
from weighbridge.bench.workloads.word_classifier import word_tokenizer
from weighbridge.optimize.model import Signature, TensorSpec
from weighbridge.optimize.source import Source, Task

TEXTS = tuple(f"where is card number {number} now" for number in range(5))
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)


def material(folder: Path, task: Task, spec: TensorSpec, tokenizer: str | None = None, *, end_to_end: bool) -> Material:
    """What prepares data of a model of one input, in batches of one and three, texts of four and eight words."""
    config = WorkloadConfig.model_validate(
        {"name": "w", "task": task, "model": "m.onnx", "preprocess": {"mean": [0.5], "std": [0.25]}}
    )
    measure = MeasureConfig(batch_sizes=(1, 3), sequence_lengths=(4, 8), end_to_end=end_to_end)
    signature = Signature("classifier", (spec,), ("scores",))
    return Material(config, measure, Source("onnx", "m.onnx", task, ""), signature, folder / "prepared", tokenizer)


def written(folder: Path, kind: str, *, end_to_end: bool = True) -> Prepared:
    """Five rows of a kind, prepared."""
    if kind == "texts":
        tokenizer = folder / "tokenizer"
        word_tokenizer(TEXTS, 50).save_pretrained(tokenizer)
        spec = TensorSpec("input_ids", "int64", ("batch", "sequence"))
        made = material(folder, "text-classification", spec, str(tokenizer), end_to_end=end_to_end)
        return made.write(Rows(texts=TEXTS), None)
    if kind == "images":
        spec = TensorSpec("pixels", "float32", ("batch", 1, 4, 4))
        made = material(folder, "image-classification", spec, end_to_end=end_to_end)
        return made.write(Rows(values=PIXELS), None)
    spec = TensorSpec("x", "float32", ("batch", 16))
    made = material(folder, "tabular-classification", spec, end_to_end=end_to_end)
    return made.write(Rows(values=PIXELS.reshape(5, 16).astype(np.float64)), None)


@pytest.mark.parametrize("kind", ["texts", "images", "numbers"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_requests_give_the_arrays_that_were_prepared(kind: str, batch_size: int, tmp_path: Path) -> None:
    """Every request of texts, images or numbers makes the very rows of the prepared arrays, the last going on with the first."""
    prepared = written(tmp_path, kind)
    for length in prepared.lengths:
        requests = raw_requests(prepared, length, batch_size)
        arrays = prepared.arrays("evaluation", length)
        assert len(requests) == 8
        for number, request in enumerate(requests):
            expected = rows(arrays, number * batch_size, batch_size)
            made = request()
            assert made.keys() == expected.keys()
            for name, array in expected.items():
                np.testing.assert_array_equal(made[name], array)
                assert made[name].dtype == array.dtype


def test_texts_are_tokenized_without_transformers(tmp_path: Path) -> None:
    """Requests of texts load neither transformers nor torch, and give the same tokens as where transformers is needed."""
    prepared = written(tmp_path, "texts")
    told = subprocess.run(
        [sys.executable, "-P", "-c", _TOKENIZE, str(prepared.folder)], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout) == [[], prepared.arrays("evaluation", 8)["input_ids"][:2].tolist()]
    for length in prepared.lengths:
        (prepared.folder / FOLDER / f"{length}.tokenizer.json").unlink()
    (first, *_) = raw_requests(prepared, 8, 2)
    np.testing.assert_array_equal(first()["input_ids"], prepared.arrays("evaluation", 8)["input_ids"][:2])


_TOKENIZE = """
import json, sys
from pathlib import Path
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.raw_inputs import raw_requests
ids = raw_requests(Prepared.read(Path(sys.argv[1])), 8, 2)[0]()["input_ids"].tolist()
print(json.dumps([[name for name in ("torch", "transformers") if name in sys.modules], ids]))
"""


def test_no_rows_are_kept_where_nobody_asks(tmp_path: Path) -> None:
    """Without measure.end_to_end the texts are not kept, and the rows of the arrays are the requests."""
    prepared = written(tmp_path, "numbers", end_to_end=False)
    assert not (prepared.folder / FOLDER).exists()
    (first, *_) = raw_requests(prepared, 0, 2)
    np.testing.assert_array_equal(first()["x"], PIXELS.reshape(5, 16)[:2])
