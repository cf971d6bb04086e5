"""Weights that ONNX Runtime's MatMulNBits keeps packed in bytes, several numbers to a byte, a scale for each block.

The layout is that of the operator's description (ONNX Runtime, docs/ContribOperators.md, com.microsoft.MatMulNBits).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx_files import nodes_of, weights_of

PACKED_PRODUCT = "MatMulNBits"
_WEIGHT, _SCALES, _ZERO_POINTS, _BLOCK_OF = 1, 2, 3, 4
"""Places of the node's inputs; the last is the block of each number, where blocks do not lie in order."""


@dataclass(frozen=True)
class PackedWeight:
    """The weight w of one MatMulNBits node: w[k, n] = (numbers[n, k] - zero_points[n, b]) * scales[n, b], b = block_of[k].

    Attributes:
        name: of the packed tensor.
        helpers: names of the tensors beside it: scales, zero points, blocks.
        bits: of one number.
        packed_bytes: of the packed tensor.
        numbers: shape (N, K), unsigned.
        zero_points: shape (N, blocks); what stands for zero.
        scales: shape (N, blocks).
        block_of: shape (K,).
    """

    name: str
    helpers: tuple[str, ...]
    bits: int
    packed_bytes: int
    numbers: NDArray[np.uint8]
    zero_points: NDArray[Any]
    scales: NDArray[Any]
    block_of: NDArray[np.int64]

    @property
    def zeros(self) -> int:
        """How many numbers stand for exactly zero."""
        return int((self.numbers == self.zero_points[:, self.block_of]).sum())

    def dequantized(self) -> NDArray[np.float32]:
        """The weight as it is multiplied, shape (K, N)."""
        steps = self.numbers.astype(np.float32) - self.zero_points[:, self.block_of].astype(np.float32)
        weight: NDArray[np.float32] = steps * self.scales[:, self.block_of].astype(np.float32)
        return weight.T


def packed_weights(model: Any) -> Iterator[PackedWeight]:
    """Every packed weight of a graph, one that several nodes share once."""
    arrays = dict(weights_of(model))
    seen: set[str] = set()
    for node in nodes_of(model):
        if node.op_type == PACKED_PRODUCT and node.input[_WEIGHT] not in seen and node.input[_WEIGHT] in arrays:
            seen.add(node.input[_WEIGHT])
            yield _packed_weight(node, arrays)


def _packed_weight(node: Any, arrays: Mapping[str, NDArray[Any]]) -> PackedWeight:
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    bits, rows, length = sizes.get("bits", 4), sizes["N"], sizes["K"]
    names = [*node.input, *[""] * (_BLOCK_OF + 1)]
    packed, scales = arrays[names[_WEIGHT]], arrays[names[_SCALES]].reshape(rows, -1)
    block_of = arrays.get(names[_BLOCK_OF], np.arange(length) // sizes["block_size"])
    return PackedWeight(
        name=names[_WEIGHT],
        helpers=tuple(name for name in names[_SCALES : _BLOCK_OF + 1] if name),
        bits=bits,
        packed_bytes=packed.nbytes,
        numbers=_unpacked(packed.reshape(rows, -1), bits)[:, :length],
        zero_points=_zero_points(arrays.get(names[_ZERO_POINTS]), scales.shape, bits),
        scales=scales,
        block_of=block_of.astype(np.int64),
    )


def _zero_points(given: NDArray[Any] | None, shape: tuple[int, ...], bits: int) -> NDArray[Any]:
    """One for each block: the middle of the range where none are given, packed bytes, or floats as they are."""
    if given is None:
        return np.full(shape, 1 << (bits - 1), np.uint8)
    rows = given.reshape(shape[0], -1)
    return (_unpacked(rows, bits) if rows.dtype == np.uint8 else rows)[:, : shape[1]]


def _unpacked(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The numbers in rows of bytes, the first of each byte in its lowest bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers: NDArray[np.uint8] = (packed[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
    return numbers.reshape(len(packed), -1)
