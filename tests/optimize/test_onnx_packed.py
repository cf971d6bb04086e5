"""Packed weights are read as the operator's description lays them out."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.onnx_packed import packed_weights


def product(weights: dict[str, Any], inputs: list[str], **sizes: int) -> Any:
    """A graph of one MatMulNBits node of the given inputs, and the same node again on its output's rows."""
    nodes = [
        helper.make_node("MatMulNBits", ["x", *inputs], [output], domain="com.microsoft", **sizes)
        for output in ("y", "z")
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name in names]
        for names, size in ((("x",), sizes["K"]), (("y", "z"), sizes["N"]))
    ]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    return helper.make_model(helper.make_graph(nodes, "g", *ends, initializers))


NIBBLES = np.array([[[0x21, 0x43]], [[0x80, 0x08]]], np.uint8)
"""Two rows of one block of three numbers and a filler: 1 2 3 (4) and 0 8 8 (0)."""
SCALES = np.array([[2.0], [0.5]], np.float32)


@pytest.mark.parametrize(
    ("zero_points", "expected", "zeros"),
    [
        (None, [[-14, -12, -10], [-4, 0, 0]], 2),
        (np.array([[0x02], [0x00]], np.uint8), [[-2, 0, 2], [0, 4, 4]], 2),
        (np.array([[1.5], [8.0]], np.float32), [[-1, 1, 3], [-4, 0, 0]], 2),
    ],
)
def test_four_bit_numbers_lie_low_nibble_first(zero_points: Any, expected: list[Any], zeros: int) -> None:
    """By hand: (number - zero point) x scale, the zero point 8 unless bytes or floats give one; fillers do not count."""
    given = {} if zero_points is None else {"p": zero_points}
    model = product({"b": NIBBLES, "s": SCALES, **given}, ["b", "s", *given], K=3, N=2, bits=4, block_size=16)
    (packed,) = packed_weights(model)
    assert packed.dequantized().T.tolist() == expected
    assert (packed.name, packed.helpers, packed.bits) == ("b", ("s", *given), 4)
    assert (packed.numbers.size, packed.zeros, packed.packed_bytes) == (6, zeros, 4)


def test_eight_bit_numbers_are_bytes() -> None:
    """With 8 bits a byte is a number, and 128 stands for zero where nothing else is said."""
    model = product(
        {"b": np.array([[[128, 130, 0]]], np.uint8), "s": SCALES[:1]}, ["b", "s"], K=3, N=1, bits=8, block_size=16
    )
    (packed,) = packed_weights(model)
    assert packed.dequantized().T.tolist() == [[0, 4, -256]]
    assert packed.zeros == 1


def test_each_block_has_its_scale_and_may_name_its_numbers() -> None:
    """Numbers take the scale of the block in which they lie, or of the block that the node's fifth input names."""
    numbers = np.full((1, 2, 8), 0x99, np.uint8)
    weights = {"b": numbers, "s": np.array([[1.0, 10.0]], np.float32), "p": np.array([[0x88]], np.uint8)}
    (packed,) = packed_weights(product(weights, ["b", "s", "p"], K=20, N=1, bits=4, block_size=16))
    assert packed.dequantized().T.tolist() == [[1] * 16 + [10] * 4]
    order = np.array([0, 1] * 10, np.int32)
    named = product({**weights, "g": order}, ["b", "s", "p", "g"], K=20, N=1, bits=4, block_size=16)
    (packed,) = packed_weights(named)
    assert packed.dequantized().T.tolist() == [[1, 10] * 10]
    assert packed.helpers == ("s", "p", "g")
