"""Half precision of a torch module: every floating-point weight and buffer in BF16 or FP16."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ..errors import BuildError
from ..model import Examples, Model, TorchModel
from ..recipe import StepConfig
from . import StepResult, Technique


class HalfPrecision(StepConfig):
    """Which half precision: bf16 (the CPU's) or fp16 (the GPU's)."""

    use: ClassVar[str] = "half-precision"
    dtype: Literal["bf16", "fp16"] = Field("bf16", description="bf16, or fp16")


def apply(model: Model, config: HalfPrecision, examples: Examples, folder: Path) -> StepResult:
    """Convert a copy of the module.

    Raises:
        BuildError: the model is no torch module, or has no floating-point weight.
    """
    del examples, folder
    import torch

    if not isinstance(model, TorchModel):
        raise BuildError("half-precision converts torch modules; use onnx-half-precision for ONNX graphs")
    dtype = torch.bfloat16 if config.dtype == "bf16" else torch.float16
    module = copy.deepcopy(model.module).to(dtype)
    cache = model.signature.cache
    signature = replace(model.signature, cache=cache and replace(cache, dtype=str(dtype).removeprefix("torch.")))
    converted = sum(parameter.numel() for parameter in module.parameters() if parameter.dtype == dtype)
    if not converted:
        raise BuildError("half-precision found no floating-point weight to convert")
    return StepResult(replace(model, module=module, signature=signature), {"parameters_converted": converted})


TECHNIQUE = Technique("half-precision", HalfPrecision, "module", apply)
