"""Inputs drawn, seeded, from a model's own signature, where no data was given: speed and agreement, no accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import ConfigError
from ...optimize.files import sha256_of_json
from ...optimize.model import Signature, TensorSpec
from ...optimize.source import Source
from ..config import MeasureConfig, WorkloadConfig
from .base import Prepared, array_file, need_room

EXAMPLES = 256
_VOCABULARY = 1000
_IMAGE_SIDE = 224
_FREE_SIZE = 64


def draw(
    config: WorkloadConfig, source: Source, signature: Signature, measure: MeasureConfig, folder: Path
) -> Prepared:
    """Draw examples for an ONNX model: fixed dimensions respected, masks all ones, token types zero.

    Raises:
        ConfigError: the model is no ONNX file, whose signature would say what to draw.
        InputError: its inputs are too large to be drawn, or have names that no file can have.
    """
    if source.kind != "onnx":
        raise ConfigError("workload.data is missing; only an .onnx file says by itself what inputs look like")
    need_room(signature, EXAMPLES)
    random = np.random.default_rng(config.seed)
    sequences = any(_is_tokens(spec) for spec in signature.inputs)
    fixed = signature.fixed_length
    lengths = (0,) if not sequences else measure.sequence_lengths if fixed is None else (fixed,)
    vocabulary = vocabulary_of(source.path)
    for length in lengths:
        place = folder / "evaluation" / str(length)
        place.mkdir(parents=True)
        for spec in signature.inputs:
            np.save(array_file(place, spec.name), _values(spec, length, vocabulary, random))
    prepared = Prepared(
        folder=folder,
        name=config.name,
        task=config.task or "tabular-classification",
        kind="classifier",
        source=source,
        class_names=(),
        lengths=lengths,
        examples=EXAMPLES,
        drawn=True,
        fixed_batch=next((spec.fixed_batch for spec in signature.inputs if spec.fixed_batch), None),
        data_sha256=sha256_of_json(
            ["drawn", config.seed, source.sha256, list(lengths), [list(spec.shape) for spec in signature.inputs]]
        ),
        calibration_sha256=None,
    )
    prepared.write()
    return prepared


def vocabulary_of(path: Path) -> int:
    """Token ids that are safe for every embedding of the graph: the fewest rows that a Gather on a weight has."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}  # noqa: PLR2004 - a table
    inputs = {value.name for value in graph.input}
    sizes = [
        rows[node.input[0]]
        for node in graph.node
        if node.op_type == "Gather"
        and node.input[0] in rows
        and node.input[1] in inputs
        and "type" not in node.input[1]
    ]
    return max(1, min(sizes, default=_VOCABULARY))


def _is_tokens(spec: TensorSpec) -> bool:
    return spec.dtype in ("int64", "int32") and len(spec.shape) == 2  # noqa: PLR2004 - batch, sequence


def _values(spec: TensorSpec, length: int, vocabulary: int, random: np.random.Generator) -> NDArray[Any]:
    shape = (EXAMPLES, *(_size(axis, size, spec, length) for axis, size in enumerate(spec.shape[1:], 1)))
    if spec.dtype in ("int64", "int32"):
        if "mask" in spec.name:
            return np.ones(shape, spec.dtype)
        if "type" in spec.name:
            return np.zeros(shape, spec.dtype)
        return random.integers(0, vocabulary, shape).astype(spec.dtype)
    if spec.dtype == "bool":
        return np.ones(shape, bool)
    return random.standard_normal(shape).astype(spec.dtype)


def _size(axis: int, size: int | str, spec: TensorSpec, length: int) -> int:
    """A free dimension: the sequence length for tokens, 3 channels and 224 pixels a side for images, else 64."""
    if isinstance(size, int):
        return size
    if _is_tokens(spec):
        return length
    if len(spec.shape) == 4:  # noqa: PLR2004 - batch, channels, height, width
        return 3 if axis == 1 else _IMAGE_SIDE
    return _FREE_SIZE
