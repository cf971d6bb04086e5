"""What an OpenVINO model must hold to pass as what its name says, by hand: bytes of weights and where layers ran."""

import re

import pytest
from weighbridge.optimize.openvino_audit import IrCensus, ir_mismatch


def census(ran: str = "MatMul in f32", **weight_bytes: int) -> IrCensus:
    return IrCensus({"MatMul": 1}, weight_bytes, parameters=100, zeros=0, float_bytes=0, ran={ran: 1})


@pytest.mark.parametrize(
    ("precision", "counted"),
    [
        ("fp32", census(f32=100)),
        ("fp32", census(f32=100, f16=40, i8=60)),
        ("fp16", census(f16=100, f32=40)),
        ("bf16", census("MatMul in bf16", bf16=100)),
        ("int8", census("MatMul in u8", i8=100, f32=8)),
    ],
)
def test_what_holds_most_bytes_is_what_the_name_says(precision: str, counted: IrCensus) -> None:
    """The type of the name has at least as many bytes as any other, and INT8 and BF16 ran in it."""
    assert ir_mismatch(precision, counted) == ""


@pytest.mark.parametrize(
    ("precision", "counted", "reason"),
    [
        ("fp32", census(f32=10, f16=100), "asked for fp32, but the weights take f32 10, f16 100"),
        ("fp32", census(f32=10, i8=100), "the weights take f32 10, f16 0, bf16 0, 8 bits or fewer 100 bytes"),
        ("fp16", census(f16=10, i4=60, u8=40), "asked for fp16, but the weights take .* 8 bits or fewer 100 bytes"),
        ("fp32", census("MatMul in u8", f32=100), "but 1 layers ran in 8 bits"),
        ("bf16", census(bf16=100), "asked for bf16, but no layer ran in it"),
        ("int8", census(i8=100), "asked for int8, but no layer ran in 8 bits"),
        ("int8", census("MatMul in u8", f32=100), "no weight is stored in 8 bits or fewer"),
    ],
)
def test_what_is_not_what_its_name_says_is_told(precision: str, counted: IrCensus, reason: str) -> None:
    """Weights kept in few bits pass under no name of a float, though the layers multiply floats."""
    assert re.search(reason, ir_mismatch(precision, counted))
