"""What a TensorRT engine really computes in, read from the engine's own inspector, layer by layer.

The inspector answers in JSON: of each layer its `LayerType`, the `Format/Datatype` of its `Inputs` and `Outputs`, and of those with
weights their `Type` and `Count`. The words for the types differ between releases ("Half", "Row major linear FP16 format").
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BuildError
from .tensorrt_library import Engine
from .tensorrt_place import Range

_TYPES = {
    "fp16": ("half", "fp16", "float16"),
    "bf16": ("bfloat16", "bf16"),
    "fp32": ("float", "fp32", "float32"),
    "int8": ("int8",),
    "fp8": ("fp8", "float8"),
}
_TYPE_OF = {word: name for name, words in _TYPES.items() for word in words}
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
_MOVING = ("reformat", "noop", "no-op", "constant", "shuffle", "slice", "copy", "quantize", "cast", "shape")
"""Types of layers that move or convert numbers and compute nothing: an engine is not named after them."""


@dataclass(frozen=True)
class EngineCensus:
    """What was counted in an engine.

    Attributes:
        layers: layers by type.
        computing: layers that compute, by the precision of what they are given.
        weight_bytes: bytes of the weights that the inspector tells of, by precision.
    """

    layers: Mapping[str, int]
    computing: Mapping[str, int]
    weight_bytes: Mapping[str, int]


def inspect(engine: Engine, ranges: Mapping[str, Range]) -> EngineCensus:
    """Count the layers of an engine, at the shapes that it is tuned for: types depend on shapes where those are free.

    Raises:
        BuildError: the engine does not describe its layers.
    """
    tensorrt = engine.tensorrt
    context = engine.engine.create_execution_context()
    for name, (_, best, _) in ranges.items():
        context.set_input_shape(name, best)
    inspector = engine.engine.create_engine_inspector()
    inspector.execution_context = context
    return census_of(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))


def census_of(information: str) -> EngineCensus:
    """Count what the inspector's JSON tells.

    Raises:
        BuildError: it is no JSON, or names layers only, as an engine does that was built without details.
    """
    layers = _layers(information)
    computing: Counter[str] = Counter()
    weight_bytes: Counter[str] = Counter()
    for layer in layers:
        if _computes(layer):
            computing[_precision(layer)] += 1
        for precision, size in _weights(layer):
            weight_bytes[precision] += size
    return EngineCensus(
        layers=dict(sorted(Counter(_type(layer) for layer in layers).items())),
        computing=dict(sorted((name, count) for name, count in computing.items() if name)),
        weight_bytes=dict(sorted(weight_bytes.items())),
    )


def _layers(information: str) -> list[Mapping[str, Any]]:
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(
            "the engine's inspector does not list its layers, so that nothing proves their types"
        ) from error
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise BuildError(
            "the engine's inspector tells no more than names of layers, so that nothing proves their types"
        )
    return list(layers)


def _type(layer: Mapping[str, Any]) -> str:
    return str(layer.get("LayerType", "unknown"))


def _computes(layer: Mapping[str, Any]) -> bool:
    kinds = (_type(layer), str(layer.get("ParameterType", "")))
    return not any(word in kind.lower() for kind in kinds for word in _MOVING)


def _precision(layer: Mapping[str, Any]) -> str:
    """The lowest precision among a layer's inputs and weights; empty where none of them is of numbers with a precision."""
    found = {_word(tensor.get("Format/Datatype", "")) for tensor in layer.get("Inputs", ())}
    found |= {precision for precision, _ in _weights(layer)}
    return next((name for name in ("int8", "fp8", "fp16", "bf16", "fp32") if name in found), "")


def _word(text: str) -> str:
    """The precision that a description names; empty where it names none."""
    words = re.findall(r"[a-z]+\d*", text.lower())
    return next((_TYPE_OF[word] for word in words if word in _TYPE_OF), "")


def _weights(layer: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Precision and bytes of the weights and biases that a layer lists."""
    for key in ("Weights", "Bias"):
        held = layer.get(key)
        if not isinstance(held, dict):
            continue
        precision = _word(str(held.get("Type", "")))
        if precision and held.get("Count"):
            yield precision, _BYTES[precision] * int(held["Count"])


def mismatch(precision: str, census: EngineCensus) -> str:
    """Why an engine is not what its precision says; empty where it is.

    An FP32 engine has layers, and none of lower precision; an FP16 one has more layers in FP16 than in FP32; an INT8 one has some in INT8,
    and may compute in floating point what its ONNX graph left so.
    """
    found = ", ".join(f"{count} in {name}" for name, count in census.computing.items()) or "none of a known type"
    lower = sum(count for name, count in census.computing.items() if name != "fp32")
    if precision == "fp32":
        wrong = lower > 0 or not census.computing
    elif precision == "fp16":
        wrong = census.computing.get("fp16", 0) <= census.computing.get("fp32", 0)
    else:
        wrong = not census.computing.get(precision)
    return f"asked for {precision}, but the engine's computing layers are {found}" if wrong else ""
