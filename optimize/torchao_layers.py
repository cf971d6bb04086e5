"""Linear layers whose 8-bit weights and activations torchao multiplies."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UnavailableError
from .int8_plan import Int8Plan
from .quiet import quiet

_INSTALL = "pip install 'weighbridge[torchao]'"


def need_torchao() -> None:
    """Raise UnavailableError, with the command that would help, where torchao is not installed."""
    if importlib.util.find_spec("torchao") is None:
        raise UnavailableError(f"torchao is not installed. To make it available: {_INSTALL}")


def need_compiler() -> None:
    """Raise UnavailableError where the C++ compiler is missing that torch.compile calls: `$CXX`, else the system's usual one."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise UnavailableError(
            f"torchao-int8 compiles the opened module, and there is no C++ compiler '{compiler}' here. To make it available: "
            "apt-get install g++, or set CXX to one, or compile = false in the step"
        )


def quantize_linear(module: Any, names: frozenset[str], *, reduce_range: bool) -> None:
    """Quantize the linear layers of these names in place: weights an output channel, activations a row, all symmetric."""
    with _torchao() as quantization:
        quantization.quantize_(
            module, _config(quantization, reduce_range=reduce_range), filter_fn=lambda _, name: name in names
        )


def made_of_integers(integers: Any, scales: Any, bias: Any, plan: Int8Plan) -> Any:
    """A linear layer with these 8-bit weights, shape (outputs, inputs), and scales, shape (outputs,).

    Raises:
        UnavailableError: torchao is not installed.
        ValueError: they do not fit together.
    """
    import torch

    if integers.dtype != torch.int8 or scales.shape != integers.shape[:1]:
        raise ValueError(f"{integers.dtype} integers of shape {tuple(integers.shape)} with {scales.numel()} scales")
    outputs, inputs = integers.shape
    linear: Any = torch.nn.Linear(inputs, outputs, bias=bias is not None)
    with _torchao() as quantization:
        quantization.quantize_(linear, _config(quantization, reduce_range=plan.reduce_range))
    with torch.no_grad():
        linear.weight.qdata.copy_(integers)
        linear.weight.scale.copy_(scales.view_as(linear.weight.scale))
    if bias is not None:
        linear.bias = torch.nn.Parameter(bias, requires_grad=False)
    return linear.eval()


@contextmanager
def _torchao() -> Iterator[Any]:
    """The quantization package of torchao, which tells at import of the compiled parts that this machine cannot load."""
    need_torchao()
    with quiet():
        from torchao import quantization

        yield quantization


def _config(quantization: Any, *, reduce_range: bool) -> Any:
    return quantization.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=reduce_range)
