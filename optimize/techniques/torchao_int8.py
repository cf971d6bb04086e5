"""Dynamic INT8 by torchao, compiled: INT8 weights a channel of outputs, activations quantized at run time, a scale a row.

Needs no calibration data, but the package torchao and, to compile, a C++ compiler wherever the variant is opened: compiling is part
of the first call. Uncompiled it is computed operator by operator, slower than FP32. Linear layers are replaced, and only they;
for generators it is not offered, for what was compiled for one length of their cache is compiled again for others.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..cpu import int8_target
from ..errors import BuildError, first_line
from ..int8_plan import Int8Plan
from ..model import Examples, Model, TorchModel
from ..recipe import StepConfig
from ..torch_int8 import int8_layers
from ..torch_layers import copy_with_linear, to_quantize
from ..torchao_layers import need_compiler, need_torchao, quantize_linear
from . import StepResult, Technique


class TorchaoInt8(StepConfig):
    """Which layers stay as they are, how many bits are used, and whether the opened module is compiled."""

    use: ClassVar[str] = "torchao-int8"
    compile: bool = Field(
        default=True, description="compile the opened module; false: slower than FP32 on most machines"
    )
    reduce_range: bool = Field(
        default_factory=lambda: int8_target() == "x86",
        description="7-bit weights and activations; default: on x86 processors without VNNI, whose 8-bit products overflow",
    )
    exclude: tuple[str, ...] = Field(
        (), description="names of layers left in floating point, as the manifest lists them under layers_quantized"
    )


def apply(model: Model, config: TorchaoInt8, examples: Examples, folder: Path) -> StepResult:
    """Replace the weights of the linear layers of a copy.

    Raises:
        ConfigError: `exclude` names a layer that is not there.
        UnavailableError: torchao is not installed, or there is no C++ compiler to compile with.
        BuildError: the model is no torch classifier, torchao refused it, or there is no linear layer in it.
    """
    del examples, folder
    if not isinstance(model, TorchModel):
        raise BuildError("torchao-int8 quantizes torch modules; use dynamic-int8 for ONNX graphs")
    if model.signature.kind == "decoder":
        raise BuildError(
            "torchao-int8 is for classifiers: a generator's cache grows with every token, and what is compiled for one length "
            "is compiled again for others; use torch-dynamic-int8"
        )
    need_torchao()
    if config.compile:
        need_compiler()
    taken = to_quantize(model.module, config.exclude, config.use, recurrent=False)
    try:
        module = copy_with_linear(model.module, taken.names)
        quantize_linear(module, frozenset(taken.names), reduce_range=config.reduce_range)
    except Exception as error:
        raise BuildError(f"torchao-int8: torchao refused the module: {first_line(error)}") from error
    plan = Int8Plan(
        scheme="torchao", layers=tuple(int8_layers(module)), reduce_range=config.reduce_range, compile=config.compile
    )
    return StepResult(replace(model, module=module, int8=plan), taken.details())


TECHNIQUE = Technique(
    "torchao-int8", TorchaoInt8, "module", apply, quantizes=True, excludes=("half-precision",), backends=("torch",)
)
