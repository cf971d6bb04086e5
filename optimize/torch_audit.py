"""What a file of torch weights really is, and the modules that it fills: weight bytes by data type, layers in 8 bits, layers left."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .int8_plan import SCALE
from .techniques.magnitude_pruning import weight_matrices
from .torch_int8 import int8_layers, is_int8, kind_of

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_TOLERATED = 4
"""Floating-point bytes a byte of integers, in layers that multiply weights, above which quantization did not fit the model."""


@dataclass(frozen=True)
class Census:
    """What was counted in a file and in the module that it fills.

    Attributes:
        modules: modules without children by class, and those that multiply 8-bit weights by theirs.
        weight_bytes: bytes of all tensors of the file by data type.
        parameters: learnt numbers: floats, scales left out, and 8-bit integers.
        zeros: exact zeros among them.
        int8: how many modules multiply 8-bit weights.
        float_bytes: bytes of floating-point weights that linear, convolution, attention and recurrent layers multiply.
    """

    modules: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    parameters: int
    zeros: int
    int8: int
    float_bytes: int

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the parameters."""
        return self.zeros / self.parameters if self.parameters else 0.0


def census_of(path: Path, module: Any) -> Census:
    """Count the tensors of a safetensors file, and the layers of the module that was filled from it."""
    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    parameters = zeros = 0
    with safe_open(str(path), "pt") as file:
        names = set(file.keys())
        for name in names:
            tensor = file.get_tensor(name)
            sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel() * tensor.element_size()
            if _is_learnt(name, tensor, names):
                parameters += tensor.numel()
                zeros += int((tensor == 0).sum())
    layers = int8_layers(module)
    return Census(
        modules=dict(sorted(Counter(_kinds(module)).items())),
        weight_bytes=dict(sorted(sizes.items())),
        parameters=parameters,
        zeros=zeros,
        int8=len(layers),
        float_bytes=_float_bytes(module),
    )


def mismatch(precision: str, census: Census) -> str:
    """Why a file is not what its precision says; empty where it is."""
    found = ", ".join(f"{name} {size} bytes" for name, size in census.weight_bytes.items()) or "none"
    if precision == "int8":
        return _int8_mismatch(census, found)
    if census.int8:
        return f"asked for {precision}, but {census.int8} layers multiply 8-bit weights"
    if 2 * census.weight_bytes.get(_DTYPES.get(precision, precision), 0) > sum(census.weight_bytes.values()):
        return ""
    return f"asked for {precision}, but the weights in the file are: {found}"


def _int8_mismatch(census: Census, found: str) -> str:
    integers = census.weight_bytes.get("int8", 0)
    if not census.int8 or not integers:
        return f"asked for int8, but the weights in the file are: {found}"
    if census.float_bytes > _TOLERATED * integers:
        return (
            "asked for int8, but most weights of linear, recurrent and convolution layers are still floating point "
            f"({census.float_bytes} bytes against {integers} in 8 bits): this technique does not fit the model"
        )
    return ""


def _is_learnt(name: str, tensor: Any, names: set[str]) -> bool:
    import torch

    scale = name.endswith(SCALE) and name.removesuffix(SCALE) in names
    return tensor.dtype == torch.int8 or (tensor.is_floating_point() and not scale)


def _kinds(module: Any) -> Iterator[str]:
    """The class of each module without children, a layer of 8-bit weights taken whole."""
    if is_int8(module):
        yield kind_of(module)
        return
    children = list(module.children())
    if not children:
        yield type(module).__name__
    for child in children:
        yield from _kinds(child)


def _float_bytes(module: Any) -> int:
    weights = (matrix.weight for matrix in weight_matrices(module))
    return sum(weight.numel() * weight.element_size() for weight in weights if not hasattr(weight, "qdata"))
