"""Whether PyTorch and ONNX Runtime can use an NVIDIA GPU here, asked in child processes, each with its reason and remedy."""

import functools

from .backends.base import Availability
from .probing import probe

_TORCH = """
import torch
if torch.version.cuda is None:
    print("built without CUDA")
elif not torch.cuda.is_available():
    print("sees no device")
else:
    print("usable", torch.cuda.get_device_name(0))
"""
_TORCH_REASONS = {
    "built without CUDA": (
        "the installed torch was built without CUDA",
        "on a machine with an NVIDIA GPU: pip install torch --index-url https://download.pytorch.org/whl/cu130",
    ),
    "sees no device": (
        "torch sees no CUDA device here",
        'run nvidia-smi and see what it says, or set device = "cpu" under [measure]',
    ),
}
_ONNXRUNTIME = """
import onnxruntime
print(*onnxruntime.get_available_providers())
"""
_ONNXRUNTIME_INSTALL = "on a machine with an NVIDIA GPU: pip uninstall onnxruntime, then pip install onnxruntime-gpu"


@functools.cache
def torch_on_cuda(version: str) -> Availability:
    """Whether torch of that version sees a CUDA device."""
    found = probe(_TORCH)
    if found.status != 0:
        return Availability(usable=False, reason=f"torch cannot be imported ({found.last_words})", version=version)
    reason, remedy = _TORCH_REASONS.get(found.answer, ("", ""))
    return Availability(usable=not reason, reason=reason, remedy=remedy, version=version)


@functools.cache
def onnxruntime_on(provider: str, version: str) -> Availability:
    """Whether ONNX Runtime of that version was built with an execution provider; whether it works shows when a model is opened."""
    found = probe(_ONNXRUNTIME)
    if found.status != 0:
        return Availability(
            usable=False, reason=f"onnxruntime cannot be imported ({found.last_words})", version=version
        )
    providers = found.answer.split()
    if provider in providers:
        return Availability(usable=True, version=version)
    reason = f"the installed ONNX Runtime has no {provider}, only {', '.join(providers)}"
    return Availability(usable=False, reason=reason, remedy=_ONNXRUNTIME_INSTALL, version=version)
