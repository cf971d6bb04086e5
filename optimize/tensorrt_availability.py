"""Whether TensorRT can run here, asked in a child process; where it cannot, the one reason of several and what would help."""

import functools
import importlib.util
import shutil

from .backends.base import Availability
from .probing import Probe, probe
from .tensorrt_library import LEAST_VERSION, new_enough

INSTALL = (
    "on a machine with an NVIDIA GPU: pip install 'weighbridge[tensorrt]' --extra-index-url https://pypi.nvidia.com"
)
_DRIVER = "install the NVIDIA driver, then run nvidia-smi"
_CODE = """
import tensorrt
print(tensorrt.__version__, flush=True)
builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
"""
_BESIDE = {"cuda.bindings": "cuda-bindings", "pynvml": "nvidia-ml-py"}
"""What is needed beside TensorRT: the modules, and the distributions that they come from."""
_LOADING_ERRORS = ("ImportError", "OSError", "ModuleNotFoundError", "FileNotFoundError")
_NO_DRIVER = ("CUDA initialization failure with error: 35", "cudaErrorInsufficientDriver", "libcuda.so.1")
_NO_DEVICE = ("CUDA initialization failure with error: 100", "cudaErrorNoDevice", "no CUDA-capable device")


@functools.cache
def tensorrt_availability() -> Availability:
    """Not installed, libraries missing, no driver, no device, builder failed, version unsupported, or usable."""
    driver = shutil.which("nvidia-smi") is not None
    if importlib.util.find_spec("tensorrt") is None:
        return Availability(usable=False, reason=_not_installed(driver=driver), remedy=INSTALL)
    found = probe(_CODE)
    reason, remedy = explain_probe(found, driver=driver)
    if not reason:
        reason, remedy = _unfit(found.answer)
    return Availability(usable=not reason, reason=reason, remedy=remedy, version=found.answer)


def _not_installed(*, driver: bool) -> str:
    reason = "tensorrt is not installed"
    if importlib.util.find_spec("tensorrt_bindings") is not None:
        reason = "only TensorRT's bindings are installed; its libraries are missing"
    return reason if driver else f"{reason}, and no NVIDIA driver was found"


def explain_probe(found: Probe, *, driver: bool) -> tuple[str, str]:
    """Reason and remedy from what the child process left that made a builder; both empty where it succeeded."""
    if found.status == 0:
        return "", ""
    last = found.last_words
    if any(sign in found.errors for sign in _NO_DRIVER):
        return f"no NVIDIA driver was found ({last})", _DRIVER
    if any(sign in found.errors for sign in _NO_DEVICE):
        return f"no CUDA device was found ({last})", "make a GPU visible to this process, then run nvidia-smi"
    if last.startswith(_LOADING_ERRORS):
        return f"the tensorrt package is there but its libraries are missing ({last})", INSTALL
    if not driver:
        return f"no NVIDIA driver was found ({last})", _DRIVER
    return f"TensorRT's builder failed ({last})", "check that the versions of driver and TensorRT fit each other"


def _unfit(version: str) -> tuple[str, str]:
    """Why a TensorRT that works is not enough: it is too old, or a package beside it is missing; empty where it is."""
    if not new_enough(version):
        least = ".".join(map(str, LEAST_VERSION))
        return f"TensorRT {version} is not supported; {least} is the first that is", INSTALL
    for module, distribution in _BESIDE.items():
        if not _is_there(module):
            return f"TensorRT needs {distribution} beside it, which is not installed", f"pip install {distribution}"
    return "", ""


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module would lie in is missing
        return False
