"""The forms in which a model passes through a build, and the description of its tensors.

A build starts from a `Source` (source.py), holds the model as a torch module, then perhaps as an ONNX file and as a TensorRT
plan, and ends as an artifact of one backend (backends/).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .int8_plan import Int8Plan
from .source import Source

Batch = Mapping[str, NDArray[Any]]
"""Named input arrays of one call; the first axis of each is the batch."""

Kind = Literal["classifier", "decoder"]
Form = Literal["module", "onnx", "plan", "fake"]


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of one tensor; a string in the shape names a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the first axis demands, or None where it is free."""
        first = self.shape[0] if self.shape else None
        return first if isinstance(first, int) else None


_CACHE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number of each type that a cache is kept in."""


@dataclass(frozen=True)
class CacheSpec:
    """The key/value cache of a decoder: tensors of shape (batch, heads, past, head_size), two a layer.

    `dtype` is float32, float16 or bfloat16.
    """

    layers: int
    heads: int
    head_size: int
    dtype: str = "float32"

    def bytes(self, batch: int, positions: int) -> int:
        """Bytes of the cache that holds so many positions of each request."""
        return 2 * self.layers * self.heads * self.head_size * batch * positions * _CACHE_BYTES[self.dtype]


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    For a classifier the first output is the class scores, shape (batch, classes) or (batch,) or (batch, 1). For a decoder
    `inputs` are input_ids and attention_mask (position ids and the cache are the loop's own affair) and `cache` is set.
    """

    kind: Kind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    cache: CacheSpec | None = None

    @property
    def fixed_length(self) -> int | None:
        """The only sequence length that token inputs (integers of rank two) take, or None where it is free."""
        tokens = [spec for spec in self.inputs if len(spec.shape) == 2 and spec.dtype.startswith("int")]  # noqa: PLR2004 - batch, sequence
        fixed = [spec.shape[1] for spec in tokens if isinstance(spec.shape[1], int)]
        return fixed[0] if fixed else None


@dataclass(frozen=True)
class TorchModel:
    """A torch module in evaluation mode on the CPU.

    `changes` are the structural changes made to the source's architecture (plain data, in order), so that the module can
    be made again before its weights are loaded; `source` is where the architecture comes from. `int8` names the layers of
    the module that multiply 8-bit weights; None where all are in floating point. `original` is the module as it was loaded,
    before any step of a build: what recovery learns from.
    """

    module: Any
    signature: Signature
    source: Source | None = None
    changes: tuple[dict[str, Any], ...] = ()
    int8: Int8Plan | None = None
    original: Any | None = None
    form: Form = "module"


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file below 2 GB with its weights inside."""

    path: Path
    signature: Signature
    form: Form = "onnx"


@dataclass(frozen=True)
class PlanModel:
    """A TensorRT plan, with the file beside it that says where it was made (tensorrt_place.py); nothing can be changed in it."""

    path: Path
    signature: Signature
    form: Form = "plan"


@dataclass(frozen=True)
class FakeModel:
    """A model of the fake backend: a plain description of how it behaves (backends/fake_backend.py)."""

    behaviour: dict[str, Any]
    signature: Signature
    form: Form = "fake"


Model = TorchModel | OnnxModel | PlanModel | FakeModel


@dataclass(frozen=True)
class Examples:
    """What a build may look at: never the evaluation labels.

    `probes` are real inputs at several shapes (batch 1, padded, short) on which every step is verified. `calibration` are
    the batches that quantization, pruning and recovery may learn from, with their labels where there are any. `batch_sizes` are
    those that will be measured, for artifacts that are made for certain shapes.
    """

    probes: tuple[Batch, ...]
    calibration: tuple[Batch, ...] = ()
    calibration_labels: NDArray[np.int64] | None = None
    calibration_sha256: str | None = None
    batch_sizes: tuple[int, ...] = ()
