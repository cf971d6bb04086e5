"""Dynamic INT8 in torch itself: INT8 weights a channel of outputs, activations quantized at run time by their own range.

Needs no calibration data. Linear, LSTM and GRU layers are replaced, and the Conv1D of a GPT-2, which is a linear layer with its
weight turned round. A tied output layer is quantized, and its embedding beside it is kept in floating point. Convolutions and
torch's own MultiheadAttention have no such form and stay as they are.

torch holds the activations to 7 bits, so that the products of processors without VNNI, which add them up in 16 bits, cannot
overflow. It has announced that this part of it will be moved to torchao, whose linear layers are compiled and whose recurrent ones
are not there yet.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ..errors import BuildError, first_line
from ..int8_plan import Int8Plan
from ..model import Examples, Model, TorchModel
from ..quiet import quiet
from ..recipe import StepConfig
from ..torch_int8 import int8_layers, need_engine
from ..torch_layers import copy_with_linear, to_quantize
from . import StepResult, Technique


class TorchDynamicInt8(StepConfig):
    """Which layers stay as they are; the rest has nothing to choose."""

    use: ClassVar[str] = "torch-dynamic-int8"
    exclude: tuple[str, ...] = Field(
        (), description="names of layers left in floating point, as the manifest lists them under layers_quantized"
    )


def apply(model: Model, config: TorchDynamicInt8, examples: Examples, folder: Path) -> StepResult:
    """Replace the layers of a copy.

    Raises:
        ConfigError: `exclude` names a layer that is not there.
        UnavailableError: this build of torch has no engine for 8-bit products.
        BuildError: the model is no torch module, torch refused it, or nothing could be replaced.
    """
    del examples, folder
    if not isinstance(model, TorchModel):
        raise BuildError("torch-dynamic-int8 quantizes torch modules; use dynamic-int8 for ONNX graphs")
    need_engine()
    taken = to_quantize(model.module, config.exclude, config.use, recurrent=True)
    try:
        module = _quantized(model.module, taken.names)
    except Exception as error:
        raise BuildError(f"torch-dynamic-int8: torch refused the module: {first_line(error)}") from error
    plan = Int8Plan(scheme="torch.ao", layers=tuple(int8_layers(module)))
    return StepResult(replace(model, module=module, int8=plan), taken.details())


def _quantized(module: Any, names: tuple[str, ...]) -> Any:
    from torch.ao import quantization

    quantize: Any = quantization.quantize_dynamic
    copied = copy_with_linear(module, names)
    with quiet():  # its deprecation is known
        quantize(copied, dict.fromkeys(names, quantization.per_channel_dynamic_qconfig), inplace=True)
    return copied


TECHNIQUE = Technique(
    "torch-dynamic-int8",
    TorchDynamicInt8,
    "module",
    apply,
    quantizes=True,
    excludes=("half-precision",),
    backends=("torch",),
)
