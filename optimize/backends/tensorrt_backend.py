"""NVIDIA TensorRT: whether it can run here is asked in a child process; building plans is not part of this release."""

# ruff: noqa: ARG002 - the seam gives arguments that a refusal does not look at

import functools
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import NotAvailableYetError
from ..model import Form, Model, Signature
from ..recipe import StepConfig
from .base import Audit, Availability, Opened, OpenOptions

_NOT_YET = "building TensorRT plans is not available yet in this release; use onnxruntime"
_INSTALL = "on a machine with an NVIDIA GPU: pip install tensorrt --extra-index-url https://pypi.nvidia.com"
_PROBE = """
import tensorrt
print(tensorrt.__version__, flush=True)
builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
"""
_PROBE_SECONDS = 60
_LOADING_ERRORS = ("ImportError", "OSError", "ModuleNotFoundError", "FileNotFoundError")
_NO_DRIVER = ("CUDA initialization failure with error: 35", "cudaErrorInsufficientDriver", "libcuda.so.1")
_NO_DEVICE = ("CUDA initialization failure with error: 100", "cudaErrorNoDevice", "no CUDA-capable device")


class TensorRtBackend:
    """TensorRT's runtime and builder."""

    name = "tensorrt"
    form: Form = "onnx"
    precisions = ("fp32", "fp16", "int8")
    calibrated: tuple[str, ...] = ()

    def availability(self) -> Availability:
        """Why TensorRT cannot run here: not installed, libraries missing, no driver, no device, builder failed."""
        return _availability()

    def default_steps(self, precision: str, model: Model) -> tuple[StepConfig, ...]:
        """Refuse: nothing is built."""
        raise NotAvailableYetError(_NOT_YET)

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Refuse: nothing is built."""
        raise NotAvailableYetError(_NOT_YET)

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Refuse: nothing is opened."""
        raise NotAvailableYetError(_NOT_YET)

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Refuse: nothing is audited."""
        raise NotAvailableYetError(_NOT_YET)

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Nothing to say of what is not built."""
        del precision, steps
        return ""


@functools.cache
def _availability() -> Availability:
    driver = shutil.which("nvidia-smi") is not None
    if importlib.util.find_spec("tensorrt") is None:
        return Availability(usable=False, reason=_not_installed(driver=driver), remedy=_INSTALL)
    status, version, errors = _probe()
    reason, remedy = explain_probe(status, errors, driver=driver)
    return Availability(usable=False, reason=reason or _NOT_YET, remedy=remedy, version=version)


def _not_installed(*, driver: bool) -> str:
    reason = "tensorrt is not installed"
    if importlib.util.find_spec("tensorrt_bindings") is not None:
        reason = "only TensorRT's bindings are installed; its libraries are missing"
    return reason if driver else f"{reason}, and no NVIDIA driver was found"


def _probe() -> tuple[int, str, str]:
    """Exit status, version and errors of a child process that makes a builder: a missing library may kill it."""
    command = [sys.executable, "-P", "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer in {_PROBE_SECONDS} s"
    return done.returncode, done.stdout.partition("\n")[0], done.stderr


def explain_probe(status: int, errors: str, *, driver: bool) -> tuple[str, str]:
    """Reason and remedy from what the probe in the child process left; both empty where it succeeded."""
    if status == 0:
        return "", ""
    lines = errors.strip().splitlines()
    last = lines[-1] if lines else f"status {status}"
    if any(sign in errors for sign in _NO_DRIVER):
        return f"no NVIDIA driver was found ({last})", "install the NVIDIA driver, then run nvidia-smi"
    if any(sign in errors for sign in _NO_DEVICE):
        return f"no CUDA device was found ({last})", "make a GPU visible to this process, then run nvidia-smi"
    if last.startswith(_LOADING_ERRORS):
        return f"the tensorrt package is there but its libraries are missing ({last})", _INSTALL
    if not driver:
        return f"no NVIDIA driver was found ({last})", "install the NVIDIA driver, then run nvidia-smi"
    return f"TensorRT's builder failed ({last})", "check that the versions of driver and TensorRT fit each other"


BACKEND = TensorRtBackend()
