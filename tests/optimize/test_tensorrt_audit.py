"""The types of an engine's layers, read from what its inspector writes."""

import json
from typing import Any

import pytest
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.tensorrt_audit import EngineCensus, census_of, mismatch


def layer(kind: str, given: str, **more: Any) -> dict[str, Any]:
    """A layer as the inspector writes it."""
    return {"Name": kind, "LayerType": kind, "Inputs": [{"Name": "x", "Format/Datatype": given}], "Outputs": [], **more}


def census(*layers: Any) -> EngineCensus:
    """The census of an engine of these layers."""
    return census_of(json.dumps({"Layers": layers, "Bindings": []}))


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ("Float", "fp32"),
        ("Row major linear FP32", "fp32"),
        ("Half", "fp16"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("BFloat16", "bf16"),
        ("Row major BF16 format", "bf16"),
        ("Int8", "int8"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("FP8", "fp8"),
    ],
)
def test_the_words_of_every_release_are_understood(words: str, precision: str) -> None:
    """Data types are told in several ways; BF16 is not taken for FP16 nor BFloat16 for a float."""
    assert census(layer("gemm", words)).computing == {precision: 1}


def test_only_layers_that_compute_are_counted() -> None:
    """Quantizing, reformatting and moving numbers in INT8 is no INT8 computation; integer indices have no precision."""
    moving = [layer(kind, "Int8") for kind in ("Reformat", "Dequantize", "Quantize", "Shuffle", "NoOp", "Cast")]
    found = census(*moving, layer("gather", "Int64"), layer("gemm", "Float"))
    assert found.computing == {"fp32": 1}
    assert found.layers["Reformat"] == 1
    assert sum(found.layers.values()) == 8
    assert census(layer("CaskConvolution", "Int8", ParameterType="Convolution")).computing == {"int8": 1}


def test_weights_count_by_type() -> None:
    """Bytes of weights and biases are their number times the size of their type, and a layer is as low as its weights."""
    found = census(
        layer("CaskConvolution", "Float", Weights={"Type": "Half", "Count": 9408}, Bias={"Type": "Half", "Count": 64}),
        layer("gemm", "Int8", Weights={"Type": "Int8", "Count": 10}, Bias={"Type": "Float", "Count": 3}),
        layer("gemm", "Half", Weights={}),
    )
    assert found.weight_bytes == {"fp16": 2 * (9408 + 64), "fp32": 12, "int8": 10}
    assert found.computing == {"fp16": 2, "int8": 1}


@pytest.mark.parametrize(
    ("precision", "computing", "wrong"),
    [
        ("fp32", {"fp32": 3}, False),
        ("fp32", {"fp32": 30, "fp16": 1}, True),
        ("fp32", {}, True),
        ("fp16", {"fp16": 3, "fp32": 2}, False),
        ("fp16", {"fp16": 2, "fp32": 2}, True),
        ("fp16", {"fp32": 9}, True),
        ("int8", {"int8": 1, "fp32": 9}, False),
        ("int8", {"fp16": 9}, True),
        ("int8", {}, True),
    ],
)
def test_an_engine_is_named_by_what_was_found(precision: str, computing: dict[str, int], wrong: bool) -> None:
    """FP32 has nothing lower, FP16 is mostly FP16, INT8 has INT8; otherwise the reason tells what there is."""
    reason = mismatch(precision, EngineCensus({}, computing, {}))
    assert bool(reason) == wrong
    if wrong:
        assert reason.startswith(f"asked for {precision}, but the engine's computing layers are ")
        assert all(f"{count} in {name}" in reason for name, count in computing.items())


@pytest.mark.parametrize("told", ["", "no JSON", "[]", '{"Layers": []}', '{"Layers": ["only", "names"]}', "{}"])
def test_an_inspector_that_tells_no_types_proves_nothing(told: str) -> None:
    """What names no layer with its types is an error, not a pass."""
    with pytest.raises(BuildError, match="nothing proves their types"):
        census_of(told)
